"""Keywords that people give: how fast an act on all images is planned, done and undone, and how fast they are found.

    python -m benchmarks.bench_keywords --rows 1000000

The images of ``bench_metadata``, whose files have keywords too. One act gives two words to all images that a search
finds, as one of ``ramq keyword add --query`` does. Each query is asked for the first time in a process that keeps
nothing yet (``cold``), and then again (``p50_ms``, ``p95_ms``; ``p50_core_ms``: on a core of the searching process).
"""

from __future__ import annotations

import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.bench_metadata import LIMIT, Bench
from benchmarks.memory import extra_bytes
from benchmarks.report import begin, options, write
from ramq.embedded import embedded
from ramq.services.keywords import KeywordClient
from ramq.services.search import SearchClient
from ramq.services.search_readers import SearchReaders
from storage.database import driver_connection, unit_of_work
from storage.search.search import Search
from storage.search.views import SearchQuery, asking
from storage.standby import Databases

if TYPE_CHECKING:
    from storage.results.keyword_acts import ActView

_TABLES = ("keyword", "keyword_said", "keyword_part", "keyword_act")


class Acts:
    """Acts on the images of a ``Bench``."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        search = Search(lambda: bench.index)
        self.found = SearchClient(SearchReaders(Databases(bench.engine), lambda _: search), None)  # type: ignore[arg-type]  # no text is encoded
        self.client = KeywordClient(bench.engine, search, lambda: self.found)

    def run(self) -> dict[str, Any]:
        """Return how long planning, doing and undoing an act took, and what it left in the database."""
        self.found.page(SearchQuery(limit=1))  # the index is open before memory is measured
        acts: list[ActView] = []
        figures: dict[str, Any] = {}

        def plan_and_do() -> None:
            began = time.perf_counter()
            acts.append(self.client.begin_for_all(SearchQuery(), add=["holiday", "Summer 2026"], asked=""))
            figures["planned_seconds"] = round(time.perf_counter() - began, 1)
            figures["done"] = self._timed(acts[0].id)

        figures["memory_mb"] = round(extra_bytes(plan_and_do, torch.device("cpu")) / 1e6, 1)
        act = acts[0]
        with unit_of_work(self.bench.engine) as session:
            sizes = [
                driver_connection(session).execute(f"SELECT pg_total_relation_size('{table}')").fetchone()
                for table in _TABLES
            ]
        with self.bench.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
        queries = self._queries()
        undone = self._timed(self.client.begin_undo(act.id).id)
        return {
            "images": act.images,
            **figures,
            "bytes_per_image": {
                table: round(size[0] / act.images, 1) for table, size in zip(_TABLES, sizes, strict=True) if size
            },
            "queries": queries,
            "undone": undone,
        }

    def _timed(self, act_id: int) -> dict[str, Any]:
        """Do an act, or undo it. Return how long it took, and its longest part: so long a worker may wait for it."""
        parts = [time.perf_counter()]

        def progress(_now: ActView) -> None:
            parts.append(time.perf_counter())

        self.client.go_on(act_id, progress=progress)
        steps = [after - before for before, after in pairwise(parts)]
        return {
            "seconds": round(parts[-1] - parts[0], 1),
            "parts": len(steps),
            "longest_part_ms": round(1000 * max(steps), 1),
        }

    def _queries(self) -> dict[str, Any]:
        timed = self.bench._timed  # noqa: SLF001  (the other half of this script)
        found = {}
        for text in ("keyword:holiday", 'keyword:"word 77"', "-keyword:holiday"):
            query = asking(SearchQuery(limit=LIMIT), text)
            found[text] = timed(lambda search, session, query=query: search.page(session, query).total)
        everything = SearchQuery(limit=LIMIT)
        found["facets of all"] = timed(
            lambda search, session: len(search.file_facets(session, everything, 20).keywords)
        )
        began = time.perf_counter()
        listed = self.client.list()
        found["list"] = {"ms": round(1000 * (time.perf_counter() - began), 1), "keywords": len(listed.items)}
        return found


def main() -> None:
    """Measure, print it, write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="images")
    parser.add_argument("--folder", type=Path, help="where the database and the index lie meanwhile")
    chosen = parser.parse_args()
    report = begin()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name, embedded(Path(name) / "services") as services:
        bench = Bench(services.database_url, Path(name))
        bench.grow(chosen.rows)
        report |= Acts(bench).run()
        bench.engine.dispose()
    for key, value in report.items():
        print(key, value)
    write(chosen, "keywords", report)


if __name__ == "__main__":
    main()

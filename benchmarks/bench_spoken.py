"""What does it cost that a search by text asks what people said of the tags that the text names?

    python -m benchmarks.bench_spoken --rows 100000

The archive is that of ``bench_search``. A page of ten hits is measured through ``Search``, in milliseconds, for a text
without tags and for texts that name a frequent and a rarer tag:

* ``not_asked``: the search without what people said, as a baseline;
* ``nothing_said``: nobody corrected anything;
* ``elsewhere``: 100,000 corrections, none of them of the named tags;
* ``spread``: 100,000 corrections of all tags, as frequent as the tags are;
* ``of_one_tag``: 100,000 corrections of the frequent tag, four in five of them that images do not have it.

Rounds of ``not_asked`` and of the others take turns, so that neighbours on the machine disturb both alike.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.bench_search import LIMIT, Bench
from benchmarks.report import begin, options, write
from ramq.embedded import embedded
from storage.database import driver_connection, unit_of_work
from storage.results.spaces import TEXT
from storage.search import ordering
from storage.search.compared import Compared
from storage.search.spoken import Spoken
from storage.search.views import SearchQuery

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 40
CORRECTIONS = 100_000
TEXTS = {"without_tags": "something else", "frequent_tag": "tag 5", "rarer_tag": "tag 500"}


class _NobodyAsks(Spoken):
    """Searches as before people were asked."""

    @classmethod
    def of(cls, *_: object) -> Spoken:  # type: ignore[override]
        """Return nothing."""
        return Spoken()


def correct(bench: Bench, names: np.ndarray, present_of_five: int = 2) -> None:
    """Replace all corrections: one of each of these tags (N,), each of an image of its own."""
    rng = np.random.default_rng(3)
    ids = rng.permutation(bench.rows)[: len(names)] + 1
    present = (np.arange(len(names)) % 5 < present_of_five).tolist()
    with unit_of_work(bench.engine) as session:
        connection = driver_connection(session)
        connection.execute("TRUNCATE correction")
        connection.execute(
            """INSERT INTO correction (image_id, name, spelling, is_present, said_by)
               SELECT image_id, name, name, is_present, 'ann'
               FROM unnest(%s::bigint[], %s::text[], %s::bool[]) AS said (image_id, name, is_present)""",
            (ids.tolist(), [f"tag {tag}" for tag in names.tolist()], present),
        )
        connection.execute("ANALYZE correction")
        connection.execute(
            "UPDATE vector SET xid = pg_current_xact_id() WHERE image_id IN (SELECT image_id FROM correction)"
        )
    bench.builder.publish_new(bench.generation_id, force=True)
    while bench.builder.compact(bench.generation_id):
        pass


def measure(bench: Bench) -> dict[str, Any]:
    """Time each text, with and without what people said."""
    background = bench.maker.queries(20)

    def page(text: str, number: int) -> None:
        query = SearchQuery(text=text, limit=LIMIT)
        vector = bench.vectors[number % len(bench.vectors)]
        with unit_of_work(bench.engine) as session:
            bench.search.page(session, query, [Compared(TEXT, "text", vector, names=background)])

    def timed(call: Callable[[], None]) -> float:
        begun = time.perf_counter()
        call()
        return 1000 * (time.perf_counter() - begun)

    found: dict[str, Any] = {}
    for kind, text in TEXTS.items():
        taken: dict[str, list[float]] = {"not_asked": [], "asked": []}
        for number in range(ROUNDS + 5):
            for way, spoken in (("not_asked", _NobodyAsks), ("asked", Spoken)):
                ordering.Spoken = spoken  # type: ignore[attr-defined, misc]
                milliseconds = timed(lambda number=number, text=text: page(text, number))
                if number >= 5:
                    taken[way].append(milliseconds)
        found[kind] = {way: round(statistics.median(each), 2) for way, each in taken.items()}
    return found


def main() -> None:
    """Measure; write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    chosen = parser.parse_args()
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder) / "services") as services:
        bench = Bench(services.database_url, Path(folder))
        bench.grow(chosen.rows)
        count = min(CORRECTIONS, chosen.rows)
        share = bench.maker._tag_share  # noqa: SLF001  (how frequent the made-up tags are)
        spread = rng.choice(len(share), count, p=share)
        elsewhere = np.where(np.isin(spread, (5, 500)), 6, spread)
        report: dict[str, Any] = {"nothing_said": measure(bench)}
        print(report)
        for kind, names, present in (
            ("elsewhere", elsewhere, 2),
            ("spread", spread, 2),
            ("of_one_tag", np.full(count, 5), 1),
        ):
            correct(bench, names, present)
            report[kind] = measure(bench) | {"of_frequent_tag": int(np.count_nonzero(names == 5))}
            print(kind, report[kind])
    write(chosen, "spoken", begin(rows=chosen.rows, corrections=count) | {"milliseconds": report})


if __name__ == "__main__":
    main()

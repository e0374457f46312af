"""How fast the text in pictures is stored and searched, and what it takes: real PostgreSQL, real index, made-up text.

    python -m benchmarks.bench_read --rows 1000000

Every image has text: five lines of five words, as uneven as those of a language, three in a hundred misread, and a
number in every tenth image. Archives have far less of it. Kinds of questions are asked twice through ``Search``, as a
web server calls it: *first*, when this process has not yet been asked for these words, and *again*, in another order.
Words are drawn by how many images have them: ``rare`` up to a ten-thousandth, ``middling`` up to a hundredth,
``common`` up to a fifth. Phrases are two words as they stand in some picture.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.read_data import TextMaker
from benchmarks.report import begin, options, write
from benchmarks.search_data import CHUNK, Maker, load, prepare
from ramq.embedded import embedded
from storage.database import driver_connection, make_engine, unit_of_work
from storage.index.builder import IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.index.index import VectorIndex
from storage.migrate import upgrade
from storage.results import generations, readings
from storage.results.generations import StageSpec
from storage.results.records import lock_existing
from storage.search.search import Search
from storage.search.views import SearchQuery, asking

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

QUERIES = 60
BATCH = 64
WIDTH = 64
"""Of the vectors: they are not what is measured."""

LIMIT = 20
SHARES = {"rare": (0, 1e-4), "middling": (1e-3, 1e-2), "common": (0.05, 0.2)}


class Bench:
    """A database with text in pictures, and an index.

    Args:
        url: an empty database.
        folder: for the index.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.engine = make_engine(url)
        upgrade(self.engine)
        place = FolderStorage(folder / "index")
        recognised = prepare(self.engine, width=WIDTH)
        with unit_of_work(self.engine) as session:
            generation_id = generations.ensure_of_stage(session, StageSpec("text", "made up text", "reader", "", ""))
        self.recognised = recognised
        self.provenance = replace(recognised, generation_id=generation_id)
        self.builder = IndexBuilder(self.engine, place, folder / "cache")
        self.index = VectorIndex(place, folder / "cache")
        self.maker, self.text = Maker(WIDTH), TextMaker()
        self.vectors = self.maker.queries(QUERIES)
        self.rng = np.random.default_rng(5)
        self.rows = 0

    def grow(self, rows: int) -> dict[str, Any]:
        """Load images until there are so many, as text in batches of ``BATCH``."""
        seconds, of_last = 0.0, 0.0
        for number in range(rows // CHUNK):
            load(self.engine, self.maker.chunk(number), self.recognised)
            found = self.text.rows(1 + number * CHUNK, CHUNK)
            began = time.perf_counter()
            for start in range(0, len(found), BATCH):
                batch = found[start : start + BATCH]
                with unit_of_work(self.engine) as session:
                    lock_existing(session, [row.image_id for row in batch])
                    readings.write_readings(session, batch, self.provenance)
            of_last = time.perf_counter() - began
            seconds += of_last
            self.rows += len(found)
            print(f"{self.rows:,} images, {len(found) / of_last:,.0f} a second", flush=True)
        self.builder.publish_new(self.recognised.generation_id, force=True)
        with unit_of_work(self.engine) as session:
            driver_connection(session).execute("ANALYZE")
        return {"images_per_second": round(self.rows / seconds), "of_the_last": round(CHUNK / of_last)}

    def sizes(self) -> dict[str, float]:
        """Return the bytes of an image in each table, with its indexes."""
        found = {}
        with unit_of_work(self.engine) as session:
            connection = driver_connection(session)
            for table in ("reading", "reading_index", "read_word"):
                names = rf"^{table}(_g\d+_p\d+)?$"
                row = connection.execute(
                    """SELECT sum(pg_table_size(oid)), sum(pg_indexes_size(oid)) FROM pg_class
                       WHERE relkind = 'r' AND relname ~ %s""",
                    [names],
                ).fetchone()
                assert row is not None
                found[f"{table} bytes"], found[f"{table} indexes"] = (round(float(n) / self.rows, 1) for n in row)
            words = connection.execute("SELECT count(*) FROM read_word").fetchone()
        assert words is not None
        return {**found, "bytes_per_image": round(sum(found.values()), 1), "words": words[0]}

    def measure(self) -> dict[str, Any]:
        """Time every kind of question in a new process' search; return milliseconds."""
        found = {}
        for name, asked in self._questions().items():
            search = Search(lambda: self.index)
            # The first search opens the index and loads the names of tags.
            self._ask(search, SearchQuery(limit=LIMIT), 0)
            queries = [replace(asking(SearchQuery(limit=LIMIT), text), relevance=0) for text in asked]
            totals = [self._ask(search, query, number) for number, query in enumerate(queries)]
            order = self.rng.permutation(len(queries)).tolist()
            again = timed([partial(self._ask, search, queries[number], number) for number in order])
            fresh = Search(lambda: self.index)
            self._ask(fresh, SearchQuery(limit=LIMIT), 0)
            first = timed([partial(self._ask, fresh, query, number) for number, query in enumerate(queries)])
            found[name] = {"median_hits": statistics.median(totals), "first": first, "again": again}
            print(f"{name:24}{found[name]}", flush=True)
        return found

    def _questions(self) -> dict[str, list[str]]:
        with unit_of_work(self.engine) as session:
            # Of a sample: reading all words takes a minute.
            counted = driver_connection(session).execute(
                "SELECT word, ndoc FROM ts_stat('SELECT words FROM reading_index WHERE image_id <= 20000')"
            )
            share = {word: n / min(self.rows, 20_000) for word, n in counted.fetchall()}
        known = set(self.text.words)
        words = {
            name: [word for word in sorted(known & set(share)) if low < share[word] <= high]
            for name, (low, high) in SHARES.items()
        }
        some = {name: self._some(each) for name, each in words.items()}
        lines = [row.lines[1].text.lower().split() for row in self.text.rows(1, 400)]
        phrases = [
            f'read:"{line[at]} {line[at + 1]}"' for at, line in enumerate(self._some(lines), 0) for at in [at % 4]
        ]
        long = [word for word in words["middling"] + words["rare"] if len(word) >= 6]
        return {
            **{f"read:word, {name}": [f"read:{word}" for word in each] for name, each in some.items()},
            'read:"a phrase"': phrases,
            "read:prefix*": [f"read:{word[:4]}*" for word in self._some(long)],
            "read:misread": [f"read:{word[:2]}x{word[3:]}" for word in self._some(long)],
            "read:word and a tag": [f'read:{word} tag:"tag {n}"' for n, word in enumerate(some["middling"])],
            "text of two words": [f"{a} {b}" for a, b in zip(some["middling"], some["common"], strict=False)],
            "text that is nowhere": ["a castle by the sea"] * QUERIES,
        }

    def _some(self, things: Sequence[Any]) -> list[Any]:
        return [things[n] for n in self.rng.choice(len(things), QUERIES, replace=len(things) < QUERIES).tolist()]

    def _ask(self, search: Search, query: SearchQuery, number: int) -> int:
        with unit_of_work(self.engine) as session:
            page = search.page(session, query, self.vectors[number] if query.text else None)
        return page.total or 0


def timed(calls: Sequence[Callable[[], object]]) -> dict[str, float]:
    """Call each once; return the median and the 95th percentile in milliseconds."""
    taken = []
    for call in calls:
        began = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - began))
    return {"p50_ms": round(statistics.median(taken), 2), "p95_ms": round(float(np.percentile(taken, 95)), 2)}


def main() -> None:
    """Measure, and write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="images")
    parser.add_argument("--folder", type=Path, help="where the database and the index lie meanwhile")
    chosen = parser.parse_args()
    report = begin()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name, embedded(Path(name) / "services") as services:
        bench = Bench(services.database_url, Path(name))
        stored = bench.grow(chosen.rows)
        report |= {"rows": bench.rows, "stored": stored, "sizes": bench.sizes()}
        print(report, flush=True)
        report["questions"] = bench.measure()
        bench.engine.dispose()
    write(chosen, "read", report)


if __name__ == "__main__":
    main()

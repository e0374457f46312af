"""How fast the text in pictures is stored and searched, and what it takes: real PostgreSQL, real index, made-up text.

    python -m benchmarks.bench_read --rows 1000000

Every image has text: five lines of five words, as uneven as those of a language, three in a hundred misread, and a
number in every tenth image. Archives have far less of it. Beyond ``--written`` images, text is copied with other ids:
searches have as many images to look at, but the dictionary does not grow any more. Kinds of questions are asked twice
through ``Search``, as a web server calls it: *first*, when this process has not yet been asked for these words, and
*again*, in another order. Words are drawn by how many images have them: ``rare`` up to a ten-thousandth, ``middling``
up to a hundredth, ``common`` up to a fifth. Phrases are two words as they stand in some picture.
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
from benchmarks.table_sizes import bytes_each
from ramq.embedded import embedded
from storage.database import driver_connection, make_engine, unit_of_work
from storage.index.builder import IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.index.index import VectorIndex
from storage.migrate import upgrade
from storage.results import generations, readings
from storage.results.generations import StageSpec
from storage.results.records import lock_existing
from storage.results.spaces import TEXT
from storage.search.compared import Compared
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
        self._began = time.perf_counter()

    def grow(self, rows: int, written: int) -> dict[str, Any]:
        """Load so many images, the first ``written`` of them as a worker writes them, the rest as copies of these."""
        seconds, on_core = [], []
        cores = self._cores()
        for number in range(written // CHUNK):
            load(self.engine, self.maker.chunk(number), self.recognised)
            found = self.text.rows(1 + number * CHUNK, CHUNK)
            began, before = time.perf_counter(), sum(map(_on_core_ms, cores))
            for start in range(0, len(found), BATCH):
                batch = found[start : start + BATCH]
                with unit_of_work(self.engine) as session:
                    lock_existing(session, [row.image_id for row in batch])
                    readings.write_readings(session, batch, self.provenance)
            seconds.append(time.perf_counter() - began)
            on_core.append(sum(map(_on_core_ms, cores)) - before)
            self._tell(CHUNK)
        for number in range(written // CHUNK, rows // CHUNK):
            load(self.engine, self.maker.chunk(number), self.recognised)
            self._copy(number * CHUNK, (number % (written // CHUNK)) * CHUNK)
            self._tell(CHUNK)
        began = time.perf_counter()
        self.builder.publish_new(self.recognised.generation_id, force=True)
        print(f"published in {time.perf_counter() - began:.0f} s", flush=True)
        # Autovacuum does it in time: then indexes have everything in order.
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
        rates = [CHUNK / each for each in seconds]
        return {
            "written": written,
            "images_per_second": round(statistics.mean(rates)),
            "of_the_last": round(rates[-1]),
            "core_ms_per_image": round(sum(on_core) / written, 3),
        }

    def _cores(self) -> list[Path]:
        """Return where Linux says how long this process and its server process were on a core."""
        with unit_of_work(self.engine) as session:
            row = driver_connection(session).execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        return [Path(f"/proc/{pid}/schedstat") for pid in ("self", row[0])]

    def _copy(self, after: int, of: int) -> None:
        """Give the next ``CHUNK`` images behind number ``after`` the text of those behind number ``of``."""
        with unit_of_work(self.engine) as session:
            for table, columns in (
                ("reading", "job_id, version, lines, confidences, corners, is_cut"),
                ("reading_index", "words"),
            ):
                driver_connection(session).execute(
                    f"""INSERT INTO {table} (image_id, generation_id, {columns})
                        SELECT image_id - {of} + {after}, generation_id, {columns} FROM {table}
                        WHERE image_id > {of} AND image_id <= {of + CHUNK} ORDER BY image_id"""
                )

    def _tell(self, rows: int) -> None:
        self.rows += rows
        print(f"{self.rows:,} images after {time.perf_counter() - self._began:.0f} s", flush=True)

    def sizes(self) -> dict[str, float]:
        """Return the bytes of an image in each table, with its indexes."""
        found = bytes_each(self.engine, ("reading", "reading_index", "read_word"), self.rows)
        with unit_of_work(self.engine) as session:
            words = driver_connection(session).execute("SELECT count(*) FROM read_word").fetchone()
        assert words is not None
        return {**found, "bytes_per_image": round(sum(found.values()), 1), "words": words[0]}

    def measure(self) -> dict[str, Any]:
        """Time every kind of question in a new process' search; return milliseconds."""
        found = {}
        for name, asked in {"a tag": ['tag:"tag 7"'] * QUERIES, **self._questions()}.items():
            search = Search(lambda: self.index)
            # The first search opens the index and loads the names of tags.
            self._ask(search, SearchQuery(limit=LIMIT), 0)
            queries = [asking(SearchQuery(limit=LIMIT), text) for text in asked]
            totals: list[int] = []
            calls = [partial(self._ask, search, query, number, totals) for number, query in enumerate(queries)]
            first = self._timed(calls)
            again = self._timed([calls[number] for number in self.rng.permutation(len(calls)).tolist()])
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
        return [things[n] for n in self.rng.choice(len(things), min(QUERIES, len(things)), replace=False).tolist()]

    def _ask(self, search: Search, query: SearchQuery, number: int, totals: list[int] | None = None) -> None:
        with unit_of_work(self.engine) as session:
            page = search.page(session, query, [Compared(TEXT, "text", self.vectors[number])] if query.text else ())
        if totals is not None:
            totals.append(page.total or 0)

    def _timed(self, calls: Sequence[Callable[[], object]]) -> dict[str, float]:
        """Call each once; return the median and the 95th percentile in milliseconds: passed, and spent on a core.

        The second is what this process and its server process took, and does not grow with what neighbours do.
        """
        passed, spent = [], []
        cores = self._cores()
        for call in calls:
            began, before = time.perf_counter(), sum(map(_on_core_ms, cores))
            call()
            passed.append(1000 * (time.perf_counter() - began))
            spent.append(sum(map(_on_core_ms, cores)) - before)
        return {
            f"{name}_{of}": round(float(np.percentile(taken, share)), 2)
            for of, taken in (("ms", passed), ("core_ms", spent))
            for name, share in (("p50", 50), ("p95", 95))
        }


def _on_core_ms(file: Path) -> float:
    """Return how long a process' main thread was on a core, from its ``schedstat``."""
    return int(file.read_text(encoding="ascii").split()[0]) / 1e6


def main() -> None:
    """Measure, and write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="images")
    parser.add_argument("--written", type=int, default=100_000, help="images whose text is written as workers do")
    parser.add_argument("--folder", type=Path, help="where the database and the index lie meanwhile")
    chosen = parser.parse_args()
    report = begin()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name, embedded(Path(name) / "services") as services:
        bench = Bench(services.database_url, Path(name))
        stored = bench.grow(chosen.rows, min(chosen.rows, chosen.written))
        report |= {"rows": bench.rows, "stored": stored, "sizes": bench.sizes()}
        print(report, flush=True)
        report["questions"] = bench.measure()
        bench.engine.dispose()
    write(chosen, "read", report)


if __name__ == "__main__":
    main()

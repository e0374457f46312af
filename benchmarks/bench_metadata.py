"""What files say: storing it, and how fast filters, facets and the order of dates are as an archive grows.

    python -m benchmarks.bench_metadata --rows 100000 1000000

Made-up images with dates of twenty years (half of them in five), forty cameras, places in thirty cities, and keywords,
on a real PostgreSQL and a real index. Each query is asked for the first time in a process that keeps nothing yet
(``cold``), and then again (``p50_ms``, ``p95_ms``; ``p50_core_ms``: on a core of the searching process). What reading a
file costs is measured on the bytes of a JPEG.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import begin, options, write
from benchmarks.search_data import CHUNK, Maker, load, prepare
from ram_core import metadata
from ramq.embedded import embedded
from storage.database import driver_connection, make_engine, unit_of_work
from storage.index.builder import MAX_SEGMENT_ROWS, IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.index.index import VectorIndex
from storage.migrate import upgrade
from storage.results.metadata import MetadataRow
from storage.results.metadata import write as write_metadata
from storage.search.search import Search
from storage.search.views import SearchQuery, asking

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 64
AGAIN = 15
LIMIT = 60
INGEST_ROWS, INGEST_BATCH = 8_192, 64

_DEVICES = """
    INSERT INTO device (kind, make, model, label, folded)
    SELECT 'camera', 'Maker', 'Camera ' || n, 'Maker Camera ' || n, 'maker camera ' || n
    FROM generate_series(1, 40) AS n
"""
# Hashes of ids, so that every run has the same images.
_FILL = """
    INSERT INTO metadata (image_id, job_id, version, taken_at, camera_id, latitude, longitude, cell, keywords,
        keyword_folds, rating)
    SELECT id, 1, '1', timestamp '2006-01-01' + CASE WHEN h %% 2 = 0 THEN 15 * interval '365 days' ELSE interval '0' END
            + (h / 2 %% 1826 * CASE WHEN h %% 2 = 0 THEN 1 ELSE 3 END) * interval '1 day' + h %% 86400 * interval '1 s',
        (SELECT min(device.id) FROM device) + (h / 7 %% 40)::int, north, east,
        floor((north + 90) * 20)::int * 7200 + floor((east + 180) * 20)::int,
        ARRAY['word ' || h %% 5000], ARRAY['word ' || h %% 5000], (h / 11 %% 6)::int
    FROM (SELECT id, h, 35 + city %% 6 * 4 + (h / 13 %% 1000) / 10000.0 AS north,
            -5 + city / 6 * 6 + (h / 17 %% 1000) / 10000.0 AS east
        FROM (SELECT id, h, h %% 30 AS city
            FROM (SELECT id, hashint8(id)::bigint + 2147483648 AS h FROM image WHERE id > %(after)s) AS hashed)
            AS placed) AS told
    ORDER BY id
"""
QUERIES = {
    "taken, a year": "taken:2022",
    "taken, a month": "taken:2022-05",
    "taken, a day": "taken:2022-05-01",
    "camera": 'camera:"maker camera 7"',
    "near, 5 km": "near:39.05,1.05,5km",
    "near, 500 km": "near:39.05,1.05,500km",
    "keyword": 'keyword:"word 77"',
    "rating": "rating:>=4",
    "a year, a camera and a tag": 'taken:2022 camera:"maker camera 7" tag:"tag 3"',
}


class Bench:
    """A database and an index that grow.

    Args:
        url: an empty database.
        folder: for the index.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.engine = make_engine(url)
        upgrade(self.engine)
        place = FolderStorage(folder / "index")
        self.provenance = prepare(self.engine, width=WIDTH)
        self.builder = IndexBuilder(self.engine, place, folder / "cache")
        self.index = VectorIndex(place, folder / "cache")
        self.maker = Maker(WIDTH)
        self.rows = 0
        with unit_of_work(self.engine) as session:
            driver_connection(session).execute(_DEVICES)

    def grow(self, rows: int) -> dict[str, Any]:
        """Load images until there are so many, and publish them."""
        before, waiting = self.rows, 0
        while self.rows < rows:
            count = min(CHUNK, rows - self.rows)
            load(self.engine, self.maker.chunk(self.rows // CHUNK, count), self.provenance)
            self.rows += count
            waiting += count
            if waiting + CHUNK > MAX_SEGMENT_ROWS or self.rows == rows:
                self.builder.publish_new(self.provenance.generation_id, force=True)
                waiting = 0
        with unit_of_work(self.engine) as session:
            driver_connection(session).execute(_FILL, {"after": before})
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
        with unit_of_work(self.engine) as session:
            size = driver_connection(session).execute("SELECT pg_total_relation_size('metadata')").fetchone()
        return {"table_bytes_per_image": round(size[0] / self.rows, 1) if size else None}

    def measure(self) -> dict[str, Any]:
        """Time every query."""
        found: dict[str, Any] = {}
        for name, text in QUERIES.items():
            query = asking(SearchQuery(limit=LIMIT), text)
            found[name] = self._timed(lambda search, session, query=query: search.page(session, query).total)
        everything = SearchQuery(limit=LIMIT)
        year = asking(everything, "taken:2022")
        found["facets of all"] = self._timed(
            lambda search, session: search.file_facets(session, everything, 20).undated
        )
        found["facets of a year"] = self._timed(lambda search, session: search.file_facets(session, year, 20).undated)
        for sort in ("taken", "taken-asc"):
            ordered = replace(everything, sort=sort)
            found[f"all by date, {sort}"] = self._timed(
                lambda search, session, ordered=ordered: search.page(session, ordered).total
            )
        ordered = replace(year, sort="taken")
        found["a year by date"] = self._timed(lambda search, session: search.page(session, ordered).total)
        found["all, best first"] = self._timed(lambda search, session: search.page(session, everything).total)
        return found

    def _timed(self, ask: Callable[[Search, Any], int | None]) -> dict[str, Any]:
        """Return milliseconds of a query: in a process that keeps nothing, and again."""
        search = Search(lambda: self.index)
        took, on_core, total = [], [], None
        for _ in range(AGAIN + 1):
            began, busy = time.perf_counter(), time.process_time()
            with unit_of_work(self.engine) as session:
                total = ask(search, session)
            took.append(1000 * (time.perf_counter() - began))
            on_core.append(1000 * (time.process_time() - busy))
        again = sorted(took[1:])
        return {
            "cold_ms": round(took[0], 2),
            "p50_ms": round(statistics.median(again), 2),
            "p95_ms": round(again[int(0.95 * (len(again) - 1))], 2),
            "p50_core_ms": round(statistics.median(on_core[1:]), 2),
            "images": total,
        }

    def ingest(self) -> dict[str, float]:
        """Return how many images a second have what their files say stored anew, in batches."""
        facts = metadata.read(_picture())
        told = {name: getattr(facts, name) for name in ("taken_at", "camera_make", "camera_model", "keywords")}
        began = time.perf_counter()
        for first in range(1, INGEST_ROWS, INGEST_BATCH):
            with unit_of_work(self.engine) as session:
                rows = [MetadataRow(first + n, "2", told) for n in range(INGEST_BATCH)]
                write_metadata(session, rows, self.provenance.job_id)
        return {"images_per_second": round(INGEST_ROWS / (time.perf_counter() - began))}


def _picture() -> bytes:
    from tests.told_by_files import exif, jpeg, xmp  # noqa: PLC0415  (a picture whose file says much)

    return jpeg(exif(offset="+02:00", place=(48.2, 16.4)), xmp({"dc:subject": ["a", "b"]}), size=(4000, 3000))


def reading() -> dict[str, float]:
    """Return how long reading a file takes, in microseconds."""
    body = _picture()
    took = []
    for _ in range(300):
        began = time.perf_counter()
        metadata.read(body)
        took.append(1e6 * (time.perf_counter() - began))
    return {"bytes": len(body), "p50_us": round(statistics.median(took), 1)}


def main() -> None:
    """Measure at every size, print it, write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="images, ascending")
    parser.add_argument("--folder", type=Path, help="where the database and the index lie meanwhile")
    chosen = parser.parse_args()
    report = begin()
    report["reading"] = reading()
    sizes = []
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name, embedded(Path(name) / "services") as services:
        bench = Bench(services.database_url, Path(name))
        for rows in sorted(chosen.rows):
            stored = bench.grow(rows)
            sizes.append({"rows": rows, **stored, "queries": bench.measure()})
            print(f"{rows:,} images, {stored}")
            for query, figures in sizes[-1]["queries"].items():
                print(f"  {query:28} {figures}", flush=True)
        report["ingest"] = bench.ingest()
        bench.engine.dispose()
    print(report["reading"], report["ingest"])
    report["sizes"] = sizes
    write(chosen, "metadata", report)


if __name__ == "__main__":
    main()

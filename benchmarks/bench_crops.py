"""How fast regions like a region are found, and what their vectors take: real PostgreSQL, real index, made-up regions.

    python -m benchmarks.bench_crops --rows 1000000

Every image has five regions of 500 tags. Their vectors are as long as lite's, and lie in clusters as those of
``search_data``. ``regions_per_second`` is how fast workers store them, in batches of 64 images. Searches are for ten
hits, through ``Search`` and as a client of ``ramq web`` sees it: among all regions, and among those of the images that
meet a filter, which recognition's index evaluates. ``recall_at_10`` is against a scan of the same regions. ``core``
milliseconds are those that the process and its server process were on a core.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from benchmarks.bench_load import door, serving
from benchmarks.bench_search import LIMIT, QUERIES, SHARES, WARM_UP, memory, newer, timed
from benchmarks.report import begin, options, write
from benchmarks.search_data import CHUNK, Maker, load, prepare
from benchmarks.table_sizes import bytes_each
from ram_core import load_text_encoder
from ramq.embedded import embedded
from ramq.web.deps import query_string
from storage.database import driver_connection, make_engine, unit_of_work
from storage.index.builder import IndexBuilder
from storage.index.condition import OneOf
from storage.index.file_storage import FolderStorage
from storage.index.index import VectorIndex
from storage.index.selection import Selection
from storage.index.vectors import Vectors
from storage.migrate import upgrade
from storage.results import crops, generations, regions
from storage.results.crops import CropsRow, FoundCrop
from storage.results.generations import StageSpec
from storage.results.index_rows import REGIONS_EACH
from storage.results.packing import pack_vectors
from storage.results.records import Provenance, lock_existing
from storage.results.region_views import FoundRegion, RegionsRow
from storage.search.query import resolve
from storage.search.search import Search
from storage.search.views import SearchQuery

if TYPE_CHECKING:
    from numpy.typing import NDArray

EACH = 5
BATCH = 64
TAGS = 500
SAMPLE = 4_000
"""Images that are written as workers do. The others are copied, which is faster."""

NAMES, SCORES = ["castle", "palace", "tower"], [9000, 8000, 7000]
TABLES = ("crop", "cropping")


class Bench:
    """A database and an index of images and their regions.

    Args:
        url: an empty database.
        folder: for the index.
        images: how many.
    """

    def __init__(self, url: str, folder: Path, images: int) -> None:
        self.engine = make_engine(url)
        upgrade(self.engine)
        self.images = images
        self.builder = IndexBuilder(self.engine, FolderStorage(folder / "index"), folder / "cache")
        self.index = VectorIndex(FolderStorage(folder / "index"), folder / "cache")
        self.search = Search(lambda: self.index)
        self.width = int(load_text_encoder("lite").encode(["a cat"]).shape[1])
        self.recognised = prepare(self.engine, width=self.width)
        with unit_of_work(self.engine) as session:
            located = generations.ensure_of_stage(session, StageSpec("locate", "made up boxes", "locator", "", ""))
            spec = StageSpec("crops", "made up crops", "lite", "", "", "tags", self.width)
            self.generation_id = generations.ensure_of_stage(session, spec)
        self.located, self.cropped = (Provenance(1, number, "none") for number in (located, self.generation_id))
        rng = np.random.default_rng(3)
        self.asked = rng.integers(1, images + 1, QUERIES).tolist()

    def load(self) -> dict[str, Any]:
        """Store images, their regions, and the vectors of these; publish all."""
        maker = Maker(self.width)
        for start in range(0, self.images, CHUNK):
            load(self.engine, maker.chunk(start // CHUNK, min(CHUNK, self.images - start)), self.recognised)
        self.builder.publish_new(self.recognised.generation_id, force=True)
        chunks = self.images // CHUNK + 1
        some = min(SAMPLE, self.images)
        vectors = maker.chunk(chunks, EACH * some).vectors.astype(np.float32)
        seconds = 0.0
        for first in range(1, some + 1, BATCH):
            ids = list(range(first, min(first + BATCH, some + 1)))
            seconds += self._write(ids, vectors[EACH * (first - 1) : EACH * (ids[-1])])
        for first in range(some + 1, self.images + 1, CHUNK // EACH):
            chunks += 1
            ids = list(range(first, min(first + CHUNK // EACH, self.images + 1)))
            self._copy(ids, maker.chunk(chunks, EACH * len(ids)).vectors)
        self._derive()
        began = time.perf_counter()
        self.builder.publish_new(self.generation_id, force=True)
        published = time.perf_counter() - began
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as plain:
            plain.exec_driver_sql("VACUUM ANALYZE")
        count = EACH * self.images
        with unit_of_work(self.engine) as session:
            status = self.index.status(session, self.generation_id)
        return {
            "regions_per_second": round(EACH * some / seconds),
            "publish_seconds": round(published, 1),
            "segments": status.segments,
            "lowest_recall": status.lowest_recall,
            "bytes_per_region": {"index": round(status.bytes / count, 1)} | bytes_each(self.engine, TABLES, count),
        }

    def _copy(self, ids: list[int], vectors: NDArray[np.float16]) -> None:
        """Store the vectors of the regions of some images."""
        rng = np.random.default_rng(ids[0])
        corners = np.sort(rng.integers(0, 10_000, (len(vectors), 2, 2), dtype=np.int16), axis=1)
        corners[:, 1] += 1
        packed = vectors.view(f"V{vectors.itemsize * vectors.shape[1]}")[:, 0]
        rows = zip(np.repeat(ids, EACH).tolist(), corners.reshape(-1, 4).tolist(), packed.tolist(), strict=True)
        with (
            unit_of_work(self.engine) as session,
            driver_connection(session).cursor() as cursor,
            cursor.copy(
                "COPY crop (image_id, generation_id, number, tag, box, tags, scores, v) FROM STDIN (FORMAT binary)"
            ) as copy,
        ):
            copy.set_types(["int8", "int2", "int2", "text", "int2[]", "text[]", "int2[]", "bytea"])
            for place, (image_id, box, vector) in enumerate(rows):
                number = 1 + place % EACH
                tag = f"tag {(image_id + number) % TAGS}"
                copy.write_row((image_id, self.generation_id, number, tag, box, NAMES, SCORES, vector))

    def _derive(self) -> None:
        """Store the regions of which there are vectors, as if they had been there before."""
        with unit_of_work(self.engine) as session:
            connection = driver_connection(session)
            connection.execute(
                f"""INSERT INTO localization (image_id, generation_id, job_id, version, tags, scores, boxes, is_cut)
                    SELECT image_id, {self.located.generation_id}, 1, '1', tags,
                        array_fill(5000::smallint, ARRAY[{EACH}]), boxes, false
                    FROM (SELECT image_id, array_agg(tag ORDER BY number) AS tags FROM crop GROUP BY 1) AS named
                    JOIN (SELECT image_id, array_agg(corner ORDER BY number, place) AS boxes
                          FROM crop, unnest(box) WITH ORDINALITY AS of_box (corner, place) GROUP BY 1) AS placed
                        USING (image_id)
                    ON CONFLICT DO NOTHING"""
            )
            connection.execute(
                "INSERT INTO located_image (image_id, generation_id) SELECT id, %s FROM image ON CONFLICT DO NOTHING",
                [self.located.generation_id],
            )
            connection.execute(
                """INSERT INTO cropping (image_id, generation_id, job_id, version, regions_xid)
                   SELECT image_id, %s, 1, '1', xid FROM located_image ON CONFLICT DO NOTHING""",
                [self.generation_id],
            )

    def _write(self, ids: list[int], vectors: NDArray[np.float32]) -> float:
        """Store the regions of some images and their vectors. Return the seconds that the vectors took."""
        rng = np.random.default_rng(ids[0])
        sides = np.sort(rng.random((len(ids), EACH, 2, 2)), axis=2).reshape(len(ids), EACH, 4)
        tags = rng.integers(0, TAGS, (len(ids), EACH))
        with unit_of_work(self.engine) as session:
            rows = [
                RegionsRow(
                    image_id,
                    "1",
                    [
                        FoundRegion(f"tag {tag}", 0.5, (float(a), float(b), float(c), float(d)))
                        for tag, (a, b, c, d) in zip(own_tags, own_sides, strict=True)
                    ],
                    is_cut=False,
                )
                for image_id, own_tags, own_sides in zip(ids, tags.tolist(), sides.tolist(), strict=True)
            ]
            lock_existing(session, ids)
            regions.write_regions(session, rows, self.located)
        packed = iter(pack_vectors(vectors))
        began = time.perf_counter()
        with unit_of_work(self.engine) as session:
            found = crops.sought(session, ids)
            lock_existing(session, ids)
            made = [
                CropsRow(
                    image_id,
                    "1",
                    found[image_id].xid,
                    [FoundCrop(tag, box, next(packed), NAMES, SCORES) for tag, box in found[image_id].regions],
                )
                for image_id in ids
            ]
            crops.write_crops(session, made, self.cropped)
        return time.perf_counter() - began

    def queries(self) -> dict[str, SearchQuery]:
        """Return what is asked, apart from the region."""
        plain = SearchQuery(limit=LIMIT)
        return {
            "all regions": plain,
            "in an archive with all of them": replace(plain, archive="1"),
            **{f"in {share} of the images": replace(plain, where=newer(share)) for share in SHARES},
            "in the images with a tag": replace(plain, tags=("tag 100",)),
        }

    def measure(self) -> dict[str, Any]:
        """Time every kind of query. Return milliseconds and recall."""
        found: dict[str, Any] = {}
        for name, query in self.queries().items():
            found[name] = self._timed(query) | {"recall_at_10": self._recall(query)}
            print(f"{name:34}{found[name]}", flush=True)
        return found

    def measure_door(self, url: str) -> dict[str, dict[str, float]]:
        """Time every kind of query as an HTTP client sees it."""
        ask = door(url)

        def search(query: SearchQuery, number: int) -> None:
            ask(f"/v1/search?limit={LIMIT}&{query_string(self._of(query, number))}")

        found = {}
        for name, query in self.queries().items():
            found[name] = timed(partial(search, query))
            print(f"HTTP, {name:28}{found[name]}", flush=True)
        return found

    def _timed(self, query: SearchQuery) -> dict[str, float]:
        """Return milliseconds: on the wall, and on cores (this process and its server process), which others share."""
        with unit_of_work(self.engine) as session:
            row = driver_connection(session).execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        server = Path(f"/proc/{row[0]}/schedstat")
        core: list[float] = []

        def ask(number: int) -> None:
            before = time.process_time() + int(server.read_text(encoding="ascii").split()[0]) / 1e9
            self._ask(query, number)
            core.append(time.process_time() + int(server.read_text(encoding="ascii").split()[0]) / 1e9 - before)

        found = timed(ask)
        spent = 1000 * np.array(core[WARM_UP:])
        return found | {f"core_p{share}_ms": round(float(np.percentile(spent, share)), 2) for share in (50, 95)}

    def _of(self, query: SearchQuery, number: int) -> SearchQuery:
        return replace(query, like_region=(self.asked[number], 1 + number % EACH))

    def _ask(self, query: SearchQuery, number: int) -> list[int]:
        with unit_of_work(self.engine) as session:
            page = self.search.page(session, self._of(query, number))
        return [crops.row_id_of(hit.image_id, hit.region.number) for hit in page.items if hit.region]

    def _recall(self, query: SearchQuery) -> float:
        """Return the share of the ten nearest that are found, against a scan of the same regions."""
        shares = []
        for number in range(0, QUERIES, 4):
            with unit_of_work(self.engine) as session:
                match = resolve(session, query, self.search.vocabulary)
                assert match is not None
                condition = match.condition
                images = self.index.view(session, self.recognised.generation_id)
                within = None if condition is None else OneOf(Selection.of(images, condition).ids(), REGIONS_EACH)
                view = self.index.view(session, self.generation_id)
                _, vector = crops.vector_of(session, self.generation_id, self.asked[number], 1 + number % EACH)
            scanned = Selection.of(view, within)
            parts = tuple((replace(part, vectors=Vectors(part.vectors.exact)), rows) for part, rows in scanned.parts)
            truth, _ = replace(scanned, parts=parts).nearest(vector, LIMIT)
            if len(truth):
                shares.append(len(np.intersect1d(truth, self._ask(query, number))) / len(truth))
        return round(float(np.mean(shares)), 4) if shares else 1.0


def main() -> None:
    """Measure, and write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="regions")
    parser.add_argument("--folder", type=Path, help="where the database and the index lie meanwhile")
    chosen = parser.parse_args()
    report = begin(memory_gb=round(psutil.virtual_memory().total / 2**30))
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name, embedded(Path(name) / "services") as services:
        bench = Bench(services.database_url, Path(name), chosen.rows // EACH)
        report |= {"regions": EACH * bench.images, "images": bench.images, "vector_size": bench.width}
        report["stored"] = bench.load()
        print(report["stored"], flush=True)
        report["queries"] = bench.measure()
        report["memory"] = memory()
        with serving(services, Path(name)) as (url, _):
            report["through_the_door"] = bench.measure_door(url)
        bench.engine.dispose()
    write(chosen, "crops", report)


if __name__ == "__main__":
    main()

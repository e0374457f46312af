"""What a second space of vectors costs, and how fast images are found in it and in two spaces at once.

    python -m benchmarks.bench_spaces --rows 1000000

Real PostgreSQL, real index, made-up images: the vectors of ``text`` are as long as lite's, those of ``look`` likewise,
and both lie in clusters as those of ``search_data``. ``images_per_second`` is how fast workers store vectors of
``look``, in batches of 64. Searches are for ten hits, through ``Search`` and as a client of ``ramq web`` sees them:
by text, by likeness in either space, and with both ranks fused, among all images and among those that meet a filter.
``recall_at_10`` is against a scan of the same vectors, ``memory`` of a process that has searched in all ways.
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

from benchmarks import bench_search
from benchmarks.bench_load import door, serving
from benchmarks.bench_search import LIMIT, QUERIES, SHARES, memory, newer, timed
from benchmarks.report import begin, options, write
from benchmarks.search_data import CHUNK, Maker
from benchmarks.table_sizes import bytes_each
from ram_core.spaces import load_image_encoder
from ramq.embedded import embedded
from ramq.web.deps import query_string
from storage.database import driver_connection, unit_of_work
from storage.index.builder import MAX_SEGMENT_ROWS
from storage.index.condition import OneOf
from storage.index.selection import Selection
from storage.index.vectors import Vectors
from storage.results import generations, looks
from storage.results.generations import StageSpec
from storage.results.packing import pack_vectors
from storage.results.records import Provenance, lock_existing
from storage.search.query import resolve
from storage.search.views import SearchQuery

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 64
SAMPLE = 8_192
"""Images whose vectors are written as workers do. The others are copied, which is faster."""

OTHER_CHUNKS = 1_000_000
"""Chunks from this one on make vectors of the second space: they have nothing to do with those of the first."""


class Bench(bench_search.Bench):
    """A database and an index of images with two vectors.

    Args:
        url: an empty database.
        folder: for the index.
    """

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        self.width = load_image_encoder("lite").spec.vector_size
        self.looking = Maker(self.width)
        with unit_of_work(self.engine) as session:
            spec = StageSpec(looks.STAGE, "made up looks", "lite", "", "", looks.STAGE, self.width)
            self.look_id = generations.ensure_of_stage(session, spec)
        self.asked: list[int] = []

    def measure_text(self) -> dict[str, Any]:
        """Time searches by text before there is another space; return milliseconds and memory."""
        texts = partial(SearchQuery, "a red boat", relevance=0, limit=LIMIT)
        return {"text": timed(partial(self._ask, lambda _: texts())), "memory": memory()}

    def look(self) -> dict[str, Any]:
        """Give every image a vector of how it looks, and publish them."""
        provenance = Provenance(self.provenance.job_id, self.look_id, "none")
        some = min(SAMPLE, self.rows)
        vectors = self.looking.chunk(OTHER_CHUNKS, some).vectors.astype(np.float32)
        began = time.perf_counter()
        for start in range(0, some, BATCH):
            packed = pack_vectors(vectors[start : start + BATCH])
            rows = [looks.LookRow(1 + start + place, "1", vector) for place, vector in enumerate(packed)]
            with unit_of_work(self.engine) as session:
                lock_existing(session, [row.image_id for row in rows])
                looks.write_looks(session, rows, provenance)
        seconds, published, waiting = time.perf_counter() - began, 0.0, some
        for first in range(1 + some, self.rows + 1, CHUNK):
            count = min(CHUNK, self.rows + 1 - first)
            self._copy(first, self.looking.chunk(OTHER_CHUNKS + 1 + first // CHUNK, count).vectors)
            waiting += count
            if waiting + CHUNK > MAX_SEGMENT_ROWS or first + count > self.rows:
                published += self._timed(lambda: self.builder.publish_new(self.look_id, force=True))
                waiting = 0
        compacted = self._timed(self._compact)
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as plain:
            plain.exec_driver_sql("VACUUM ANALYZE")
        with unit_of_work(self.engine) as session:
            status = self.index.status(session, self.look_id)
        self.asked = np.random.default_rng(3).integers(1, self.rows + 1, QUERIES).tolist()
        return {
            "images_per_second": round(some / seconds),
            "publish_seconds": round(published, 1),
            "compact_seconds": round(compacted, 1),
            "segments": status.segments,
            "lowest_recall": status.lowest_recall,
            "bytes_per_image": {"index": round(status.bytes / self.rows, 1)}
            | bytes_each(self.engine, ("vector", "look"), self.rows),
        }

    def _compact(self) -> None:
        while self.builder.compact(self.look_id):
            pass

    @staticmethod
    def _timed(do: Callable[[], object]) -> float:
        began = time.perf_counter()
        do()
        return time.perf_counter() - began

    def _copy(self, first: int, vectors: np.ndarray[Any, Any]) -> None:
        """Store vectors of the images from ``first`` on."""
        packed = vectors.view(f"V{vectors.itemsize * vectors.shape[1]}")[:, 0]
        with (
            unit_of_work(self.engine) as session,
            driver_connection(session).cursor() as cursor,
            cursor.copy("COPY look (image_id, generation_id, job_id, version, v) FROM STDIN (FORMAT binary)") as copy,
        ):
            copy.set_types(["int8", "int2", "int8", "text", "bytea"])
            for image_id, vector in enumerate(packed.tolist(), first):
                copy.write_row((image_id, self.look_id, self.provenance.job_id, "1", vector))

    def queries(self) -> dict[str, Callable[[int], SearchQuery]]:
        """Return what is asked, by the number of the question."""
        found: dict[str, Callable[[int], SearchQuery]] = {}
        kinds: dict[str, Callable[[int], SearchQuery]] = {
            "text": lambda _: SearchQuery("a red boat", relevance=0, limit=LIMIT),
            "like, text": lambda n: SearchQuery(like=self.asked[n], space="text", limit=LIMIT),
            "like, look": lambda n: SearchQuery(like=self.asked[n], space="look", limit=LIMIT),
            "like, text and look fused": lambda n: SearchQuery(like=self.asked[n], space="text,look", limit=LIMIT),
            "a text and like, fused": lambda n: SearchQuery("a red boat", like=self.asked[n], relevance=0, limit=LIMIT),
        }
        for name, kind in kinds.items():
            found[name] = kind
            for share in SHARES:
                found[f"{name}, in {share}"] = lambda n, kind=kind, share=share: replace(kind(n), where=newer(share))  # type: ignore[misc]
        return found

    def measure(self) -> dict[str, Any]:
        """Time every kind of query; return milliseconds, recall and memory."""
        found: dict[str, Any] = {}
        for name, query in self.queries().items():
            found[name] = timed(partial(self._ask, query))
            if name.startswith("like, look"):
                found[name]["recall_at_10"] = self._recall_of_look(query)
            print(f"{name:40}{found[name]}", flush=True)
        return {"queries": found, "memory": memory()}

    def measure_door(self, url: str) -> dict[str, dict[str, float]]:
        """Time every kind of query as an HTTP client sees it."""
        ask = door(url)

        def search(query: Callable[[int], SearchQuery], number: int) -> None:
            ask(f"/v1/search?limit={LIMIT}&{query_string(query(number))}")

        found = {}
        for name, query in self.queries().items():
            found[name] = timed(partial(search, query))
            print(f"HTTP, {name:34}{found[name]}", flush=True)
        return found

    def _recall_of_look(self, query: Callable[[int], SearchQuery]) -> float:
        """Return the share of the ten nearest that are found, against a scan of the same vectors."""
        shares = []
        for number in range(0, QUERIES, 4):
            asked = query(number)
            assert asked.like is not None
            with unit_of_work(self.engine) as session:
                match = resolve(session, asked, self.search.vocabulary)
                assert match is not None
                images = Selection.of(self.index.view(session, self.generation_id), match.condition)
                within = None if match.condition is None else OneOf(images.ids())
                scanned = Selection.of(self.index.view(session, self.look_id), within)
                vector = looks.vector_of(session, self.look_id, asked.like)
            assert vector is not None
            parts = tuple((replace(part, vectors=Vectors(part.vectors.exact)), rows) for part, rows in scanned.parts)
            truth, _ = replace(scanned, parts=parts).nearest(vector, LIMIT + 1)
            truth = truth[truth != asked.like][:LIMIT]
            if len(truth):
                shares.append(len(np.intersect1d(truth, self._page(asked, number))) / len(truth))
        return round(float(np.mean(shares)), 4)


def main() -> None:
    """Measure, and write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="images")
    parser.add_argument("--folder", type=Path, help="where the database and the index lie meanwhile")
    chosen = parser.parse_args()
    report = begin(memory_gb=round(psutil.virtual_memory().total / 2**30))
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name, embedded(Path(name) / "services") as services:
        bench = Bench(services.database_url, Path(name))
        report |= {"images": chosen.rows, "vector_size": {"text": bench.vectors.shape[1], "look": bench.width}}
        report["text"] = bench.grow(chosen.rows)
        report["one_space"] = bench.measure_text()
        report["look"] = bench.look()
        print(report["look"], flush=True)
        report |= bench.measure()
        with serving(services, Path(name)) as (url, _):
            report["through_the_door"] = bench.measure_door(url)
        bench.engine.dispose()
    write(chosen, "spaces", report)


if __name__ == "__main__":
    main()

"""Should a space in Milvus be a collection of its own, or a further vector field of recognition's collection?

    python -m benchmarks.bench_milvus_spaces --rows 20000 --name 2-core

Both are filled with the same made-up images, with vectors as long as those of ``lite``: 512 numbers for recognition,
560 for the space. They are in Milvus Lite, a flat index, each in a process of its own. The space comes later (``add``),
as when somebody begins `ramq look`, and is given up at the end (``drop``). A collection is added and dropped. A field
is filled and emptied by writing all rows again, since Milvus replaces rows as a whole: also where it lets a client send
some fields only, it reads the row, inserts it changed, and deletes the old one. An image without a vector has zeros in
that field: Milvus Lite takes no rows in which a vector is missing. ``memory_mb`` is what the server and the client take
in one process.

``look of a tag`` is a search for images like one among those with a tag that a share of all have. With fields it is one
request, and one more counts the matches. With collections it is what ramq does: ``Selection.of_images`` reads the ids
of the matches, or tests the nearest images if the matches are many. ``listed`` is how many images could be found at
all. ``core_ms`` is the median time that the process was on a core, which says more than the clock where others use the
machine.

Milvus Lite is written in Python. Its times for filters, and most of all for lists of ids, say little about a server;
what each of the two has to write, read and keep says more.
"""

from __future__ import annotations

import multiprocessing
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.bench_search import memory
from benchmarks.report import begin, options, write
from storage.index import selection
from storage.index.condition import HasTag
from storage.index.index import View
from storage.index.milvus import filters
from storage.index.milvus.client import Milvus, facts_of
from storage.index.milvus.collection import Collection
from storage.index.selection import Selection
from storage.results.index_rows import SOURCES
from storage.results.projection import RawRows
from storage.results.vectors import Pointer
from storage.tables import SCORE_SCALE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

RECOGNITION, LOOK = 512, 560
SHARES = (0.01, 0.4, 0.6)
"""How many images have the tags 0, 1 and 2."""

UNITS = np.full(100, 5_000, dtype=np.int32)
"""The thresholds of the vocabulary."""

EACH = 2_000
QUERIES, WARM_UP = 20, 3
FILTERED = 2
"""Queries with a filter."""

LIMIT = 20


class Made:
    """Made-up images, the same in each process."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.random = np.random.default_rng(5)
        self.queries = {size: self.vectors(QUERIES + WARM_UP, size) for size in (RECOGNITION, LOOK)}

    def vectors(self, count: int, size: int) -> NDArray[np.float32]:
        """Return random unit vectors (N, D), rounded as the database rounds them."""
        vectors = self.random.standard_normal((count, size), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float16).astype(np.float32)

    def chunks(self, *, has_tags: bool) -> Iterator[RawRows]:
        """Yield images of which ``SHARES`` have the tags 0 to 2, and all have some of the others."""
        for start in range(0, self.rows, EACH):
            count = min(EACH, self.rows - start)
            has = self.random.random((count, len(UNITS))) < np.array([*SHARES, *[0.12] * (len(UNITS) - len(SHARES))])
            has &= has_tags
            ids = np.arange(start + 1, start + count + 1)
            key = b"" if not has_tags else b"2024/holiday/IMG_0000.jpg"
            tags = np.nonzero(has)[1].astype(np.int16)
            yield RawRows(
                ids=ids,
                archives=np.ones(count, dtype=np.int32),
                jobs=np.ones(count, dtype=np.int64),
                modified=ids,
                sizes=ids,
                key_offsets=np.arange(count + 1, dtype=np.int64) * len(key),
                key_bytes=np.frombuffer(key * count, dtype=np.uint8),
                tag_offsets=np.concatenate([[0], np.cumsum(has.sum(axis=1))]).astype(np.int64),
                tags=tags,
                scores=self.random.integers(UNITS[0] + 1, SCORE_SCALE, len(tags)).astype(np.int16),
            )


class Collections:
    """A collection for each space."""

    def __init__(self, milvus: Milvus, made: Made) -> None:
        self.milvus = milvus
        self.made = made

    def fill(self) -> None:
        """Write recognition's rows."""
        self._fill("recognition", RECOGNITION, has_tags=True)

    def add(self) -> None:
        """Write the space's rows."""
        self._fill("look", LOOK, has_tags=False)

    def drop(self) -> None:
        """Give the space up."""
        self.milvus.drop("look")

    def by_text(self, number: int, filter_: str = filters.EVERYTHING) -> object:
        """Find the images nearest to a vector of recognition."""
        return self.milvus.nearest("recognition", filter_, self.made.queries[RECOGNITION][number], LIMIT)

    def by_look(self, number: int) -> object:
        """Find the images nearest to a vector of the space."""
        return self.milvus.nearest("look", filters.EVERYTHING, self.made.queries[LOOK][number], LIMIT)

    def by_look_among(self, tag: int, number: int) -> int:
        """Find the images with a tag that are nearest to a vector of the space. Return how many could be found."""
        query = self.made.queries[LOOK][number]
        has_tag = self._view("recognition", RECOGNITION)
        ranked = Selection.of_images(
            self._view("look", LOOK), Selection.of(has_tag, HasTag(((tag, int(UNITS[tag])),))), query
        )
        ranked.nearest(query, LIMIT)
        return len(ranked)

    def _fill(self, name: str, size: int, *, has_tags: bool) -> None:
        self.milvus.create(name, size)
        for raw in self.made.chunks(has_tags=has_tags):
            self.milvus.upsert(name, raw, self.made.vectors(len(raw), size).astype(np.float16), UNITS)

    def _view(self, name: str, size: int) -> View:
        nothing = np.empty(0, dtype=np.int64)
        return View(
            generation_id=0,
            source=SOURCES["look"],
            vector_size=size,
            assigned_units=UNITS,
            pointer=Pointer(1, 1, None),
            snapshot="",
            segments=(),
            newer=(),
            damaged=(),
            opened_at=0.0,
            remote=Collection(self.milvus, name, UNITS, nothing),
        )


class Fields:
    """One collection with a vector field for each space."""

    NAME = "all"

    def __init__(self, milvus: Milvus, made: Made) -> None:
        self.milvus = milvus
        self.made = made

    def fill(self) -> None:
        """Write recognition's rows."""
        with self.milvus.opened() as client:
            from pymilvus import DataType  # noqa: PLC0415  (an extra)

            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("pk", DataType.INT64, is_primary=True)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=RECOGNITION)
            schema.add_field("look", DataType.FLOAT_VECTOR, dim=LOOK)
            for name in ("archive", "job", "modified", "size"):
                schema.add_field(name, DataType.INT64)
            schema.add_field("key", DataType.VARCHAR, max_length=1000)
            schema.add_field("assigned", DataType.ARRAY, element_type=DataType.INT16, max_capacity=1000)
            schema.add_field("scores", DataType.JSON)
            indexes = client.prepare_index_params()
            for name in ("vector", "look"):
                indexes.add_index(name, index_type="FLAT", metric_type="IP")
            client.create_collection(self.NAME, schema=schema, index_params=indexes, consistency_level="Strong")
        self._fill(has_look=False)

    def add(self) -> None:
        """Write all rows again, with the vectors of the space."""
        self._fill(has_look=True)

    def drop(self) -> None:
        """Write all rows again, without the vectors of the space."""
        self._fill(has_look=False)

    def by_text(self, number: int, filter_: str = filters.EVERYTHING) -> object:
        """Find the images nearest to a vector of recognition."""
        return self._nearest("vector", self.made.queries[RECOGNITION][number], filter_)

    def by_look(self, number: int, filter_: str = filters.EVERYTHING) -> object:
        """Find the images nearest to a vector of the space."""
        return self._nearest("look", self.made.queries[LOOK][number], filter_)

    def by_look_among(self, tag: int, number: int) -> int:
        """Find the images with a tag that are nearest to a vector of the space. Return how many could be found."""
        has_tag = f"array_contains(assigned, {tag})"
        self.by_look(number, has_tag)
        return self.milvus.count(self.NAME, has_tag)

    def _nearest(self, field: str, query: NDArray[np.float32], filter_: str) -> object:
        with self.milvus.opened() as client:
            return client.search(self.NAME, data=[query], anns_field=field, filter=filter_, limit=LIMIT)

    def _fill(self, *, has_look: bool) -> None:
        for raw in self.made.chunks(has_tags=True):
            vectors = self.made.vectors(len(raw), RECOGNITION)
            looks = self.made.vectors(len(raw), LOOK) if has_look else np.zeros((len(raw), LOOK), np.float32)
            rows = []
            for row in range(len(raw)):
                facts = facts_of(raw, row)
                assigned = [int(tag) for tag in facts["scores"]]
                rows.append({**facts, "vector": vectors[row], "look": looks[row], "assigned": assigned})
            with self.milvus.opened() as client:
                client.upsert(self.NAME, rows)


def timed(call: Callable[[int], object], queries: int = QUERIES) -> dict[str, float]:
    """Call with one number after the other; return milliseconds by the clock and on a core."""
    for number in range(WARM_UP if queries > FILTERED else 0):
        call(number)
    taken, on_core = [], []
    for number in range(WARM_UP, WARM_UP + queries):
        began, used = time.perf_counter(), time.process_time()
        call(number)
        taken.append(1000 * (time.perf_counter() - began))
        on_core.append(1000 * (time.process_time() - used))
    return {
        "p50_ms": round(statistics.median(taken), 1),
        "p95_ms": round(float(np.percentile(taken, 95)), 1),
        "core_ms": round(statistics.median(on_core), 1),
    }


def megabytes(folder: Path) -> float:
    """Return the size of a folder's files."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1)


def step(call: Callable[[], object], milvus: Milvus, folder: Path) -> dict[str, float]:
    """Return the seconds of a call, by the clock and on a core, and what it leaves on disk and in memory."""
    began, used = time.perf_counter(), time.process_time()
    call()
    flush(milvus)
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "core_seconds": round(time.process_time() - used, 1),
        "disk_mb": megabytes(folder),
        "memory_mb": memory()["own_mb"],
    }


def flush(milvus: Milvus) -> None:
    """Let Milvus write what it has in memory to its files."""
    for name in milvus.collections():
        with milvus.opened() as client:
            client.flush(name)


def searched(kind: Collections | Fields) -> dict[str, dict[str, float]]:
    """Return how long each kind of search takes."""
    found = {
        "text": timed(kind.by_text),
        "look": timed(kind.by_look),
        "both": timed(lambda number: (kind.by_text(number), kind.by_look(number))),
    }
    for tag, share in enumerate(SHARES):
        listed: list[int] = []

        def search(number: int, tag: int = tag, listed: list[int] = listed) -> None:
            listed.append(kind.by_look_among(tag, number))

        figures = timed(search, FILTERED)
        found[f"look of a tag of {share:.0%}"] = {**figures, "listed": min(listed)}
    return found


def measure(of: type[Collections | Fields], rows: int, folder: Path) -> dict[str, Any]:
    """Return all figures of one of the two."""
    # The limits are those of 100,000 images, so that the same shares of them are listed.
    selection.MOST_LISTED = selection.MOST_LISTED * rows // 100_000
    selection.MOST_TESTED = selection.MOST_TESTED * rows // 100_000
    milvus = Milvus((folder / "milvus.db").as_uri().replace("file:", "milvus+file:"))
    kind = of(milvus, Made(rows))
    before = memory()["own_mb"]
    report: dict[str, Any] = {"memory_before_mb": before}
    for name, call in (("fill", kind.fill), ("add", kind.add)):
        report[name] = step(call, milvus, folder)
    report["searches"] = searched(kind)
    report["memory_after_searches_mb"] = memory()["own_mb"]
    report["drop"] = step(kind.drop, milvus, folder)
    milvus.close()
    return report


def main() -> None:
    """Measure both and write the report."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    chosen = parser.parse_args()
    report = begin(rows=chosen.rows, recognition=RECOGNITION, look=LOOK)
    for name, of in (("collections", Collections), ("fields", Fields)):
        folder = Path(tempfile.mkdtemp())
        with multiprocessing.get_context("spawn").Pool(1) as process:
            report[name] = process.apply(measure, (of, chosen.rows, folder))
        shutil.rmtree(folder)
        for what, figures in {**report[name], **report[name]["searches"]}.items():
            if what != "searches":
                print(f"{name:12} {what:28} {figures}", flush=True)
    write(chosen, "milvus-spaces", report)


if __name__ == "__main__":
    main()

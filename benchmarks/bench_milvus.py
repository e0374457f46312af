"""The same images in segments, in Milvus Lite and in a Milvus server, as ramq uses them: recall, times, bytes.

    milvus-server --data DIR --proxy-port 19530
    python -m benchmarks.bench_milvus --folder WORK --server milvus+http://127.0.0.1:19530 --server-folder DIR

Made-up images are stored in PostgreSQL once. Each index is then built from the database by ramq's own builder, asked
through ramq's own reader, and verified: a query with its filter becomes ids. So the figures contain what ramq adds,
such as Milvus' strong consistency. Without ``--server``, the server is left out; ``--without-lite`` leaves Milvus Lite
out, which bears no million images.

``build_seconds`` is the first publication. ``ready_seconds`` is how much longer it took until Milvus had written and
indexed all rows; until then it scans the newest ones. It may go on to merge its segments. ``--again`` asks a server
that an earlier run has filled, and builds nothing. ``bytes_per_vector`` is of all files that grew, with tags, keys and
dates. One client asks each index, after it is built and before the next is. Then ``CLIENTS`` ask it at the same time,
which gives ``per_second``. ``cores_busy`` is the processor time of the whole machine, whoever used it.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.bench_filtered import figures
from benchmarks.filtered_data import FILTERS, LIMIT, Filter, Images, directory_bytes
from benchmarks.filtered_systems import ours, query_of
from benchmarks.report import begin, options, save, write
from storage.index.builder import IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.index.milvus.builder import MilvusBuilder
from storage.index.milvus.client import Milvus
from storage.index.milvus.reader import MilvusIndex
from storage.index.selection import Selection
from storage.remembered import read_only
from storage.results import generations
from storage.search.query import resolve

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from numpy.typing import NDArray

    from benchmarks.filtered_systems import Ours
    from storage.index.index import VectorIndex

WARM_UP = 3
CLIENTS = 4
RATE_SECONDS = 10.0
RATED = ("none", "tag 1.00%")
FEW = 5
"""Queries with a filter in Milvus Lite, which evaluates filters in Python: one takes seconds."""
ASKED = ("none", "tag 0.10%", "tag 1.00%", "tag 10.00%", "tag 50.00%", "prefix 10.00%")
READY_SECONDS = 3_600


class InMilvus:
    """An index in Milvus of the images that another system has in its database.

    Args:
        url: as ``RAMQ_INDEX_URL``.
        system: with the images.
        folder: for the files beside it.
        files: the folder in which Milvus keeps its files.
    """

    def __init__(self, url: str, system: Ours, folder: Path, files: Path) -> None:
        self.milvus = Milvus(url)
        self.engine = system.engine
        self.files = files
        place = FolderStorage(folder / "place")
        self.builder = MilvusBuilder(self.milvus, system.engine, place, folder / "cache")
        self.index = MilvusIndex(self.milvus, place, folder / "cache")

    def built(self, generation_id: int, rows: int) -> dict[str, Any]:
        """Return what is known of a collection that an earlier run has filled."""
        with read_only(self.engine) as session:
            (name,) = self.milvus.collections()
            published_at = self.index.status(session, generation_id).published_at
        with self.milvus.opened() as client:
            return {
                "version": client.get_server_version(),
                "published_at": str(published_at),
                "bytes_per_vector": round(directory_bytes(self.files) / rows),
                "index": client.describe_index(name, "vector"),
                "load": round(os.getloadavg()[0], 1),
            }

    def build(self, generation_id: int, rows: int, *, is_server: bool) -> dict[str, Any]:
        """Fill a collection from the database; return seconds and bytes."""
        before = directory_bytes(self.files) if self.files.exists() else 0
        began = time.perf_counter()
        self.builder.rebuild(generation_id)
        took = time.perf_counter() - began
        (name,) = self.milvus.collections()
        with self.milvus.opened() as client:
            client.flush(name)
            if is_server:
                _wait_for_index(client, name)
            version = client.get_server_version()
        ready = time.perf_counter() - began - took
        return {
            "version": version,
            "build_seconds": round(took, 1),
            "ready_seconds": round(ready, 1),
            "bytes_per_vector": round((directory_bytes(self.files) - before) / rows),
            "load": round(os.getloadavg()[0], 1),
        }


def _wait_for_index(client: Any, name: str) -> None:
    ended = time.monotonic() + READY_SECONDS
    while True:
        state = client.describe_index(name, "vector")
        if state["state"] == "Finished" and int(state["indexed_rows"]) >= int(state["total_rows"]):
            client.refresh_load(name)
            return
        if time.monotonic() > ended:
            raise SystemExit(f"the vectors were not indexed within {READY_SECONDS} seconds: {state}")
        time.sleep(0.5)


def ask(system: Ours, index: VectorIndex, asked: Filter, query: NDArray[np.float32]) -> list[int]:
    """Resolve the filter and ask an index for the nearest images, as ``Search`` does; read no content of hits."""
    with read_only(system.engine) as session:
        match = resolve(session, query_of(asked), system.search.vocabulary)
        assert match is not None
        found = Selection.of(index.view(session, match.generation.id), match.condition)
        ids: list[int] = found.nearest(query, LIMIT)[0].tolist()
        return ids


def asked_all(
    chosen: argparse.Namespace, system: Ours, index: VectorIndex, images: Images, *, is_slow: bool = False
) -> dict[str, dict[str, float]]:
    """Return recall and milliseconds of an index, by filter."""
    found = {}
    for asked in (each for each in FILTERS if each.name in ASKED):
        queries = images.maker.queries(chosen.queries)
        if is_slow and asked.kind != "none":
            queries = queries[:FEW]
        truth = images.truth(asked, queries)
        for query in queries[: 1 if is_slow else WARM_UP]:
            ask(system, index, asked, query)
        taken, recalls = [], []
        for number, query in enumerate(queries):
            began = time.perf_counter()
            ids = ask(system, index, asked, query)
            taken.append(time.perf_counter() - began)
            recalls.append(truth.recall(number, ids))
        found[asked.name] = {"queries": len(queries), **figures(taken, recalls)}
        print("   ", asked.name, found[asked.name], flush=True)
    return found


def rates(system: Ours, index: VectorIndex, images: Images) -> dict[str, dict[str, float]]:
    """Return how many searches a second ``CLIENTS`` get from an index, by filter."""
    found = {}
    for asked in (each for each in FILTERS if each.name in RATED):
        queries = images.maker.queries(200)
        numbers = count()
        ended = time.perf_counter() + RATE_SECONDS

        def client(asked: Filter = asked, ended: float = ended) -> int:
            done = 0
            while time.perf_counter() < ended:
                ask(system, index, asked, queries[next(numbers) % len(queries)])  # noqa: B023 - used before the next
                done += 1
            return done

        psutil.cpu_percent()
        began = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as clients:
            done = sum(each.result() for each in [clients.submit(client) for _ in range(CLIENTS)])
        took = time.perf_counter() - began
        busy = psutil.cpu_percent() / 100 * (os.cpu_count() or 1)
        found[asked.name] = {"clients": CLIENTS, "per_second": round(done / took, 1), "cores_busy": round(busy, 2)}
        print("   ", asked.name, found[asked.name], flush=True)
    return found


def measure_again(chosen: argparse.Namespace, report: dict[str, Any]) -> dict[str, Any]:
    """Ask the server that an earlier run with the same options has filled; return the report with the figures."""
    images = Images(chosen.rows, chosen.width)
    found: dict[str, Any] = {"rows": chosen.rows, "width": chosen.width, "queries": chosen.queries}
    with ours(chosen.folder / "ramq") as (system, _):
        with read_only(system.engine) as session:
            generation = generations.default(session)
            assert generation is not None
        there = InMilvus(chosen.server, system, chosen.folder / "server", chosen.server_folder)
        found["built"] = {"server": there.built(generation.id, chosen.rows)}
        print(found["built"], flush=True)
        found["filters"] = {"server": asked_all(chosen, system, there.index, images)}
        found["rates"] = {"server": rates(system, there.index, images)}
        save(chosen, "milvus", report | found)
        found["built"]["server"]["problems"] = there.builder.verify(generation.id)
    return report | found


def measure(chosen: argparse.Namespace, report: dict[str, Any]) -> dict[str, Any]:
    """Build all, ask all; return the report with the figures."""
    images = Images(chosen.rows, chosen.width)
    found: dict[str, Any] = {
        "rows": chosen.rows, "width": chosen.width, "queries": chosen.queries, "built": {}, "filters": {}, "rates": {}
    }  # fmt: skip
    with ours(chosen.folder / "ramq") as (system, _):
        system.build(images)
        with read_only(system.engine) as session:
            generation = generations.default(session)
            assert generation is not None
        began = time.perf_counter()
        # Once more, from the database as a whole, as the others are built.
        builder = IndexBuilder(system.engine, system.place, chosen.folder / "builder")
        builder.rebuild(generation.id)
        took = time.perf_counter() - began
        with read_only(system.engine) as session:
            size = system.index.status(session, generation.id).bytes
        found["built"]["segments"] = {
            "build_seconds": round(took, 1),
            "bytes_per_vector": round(size / chosen.rows),
            "load": round(os.getloadavg()[0], 1),
        }
        print("segments", found["built"]["segments"], flush=True)
        found["filters"]["segments"] = asked_all(chosen, system, system.index, images)
        found["rates"]["segments"] = rates(system, system.index, images)
        save(chosen, "milvus", report | found)
        for name, url, files in _milvuses(chosen):
            # The database names one published index. So each is asked before the next is built.
            there = InMilvus(url, system, chosen.folder / name, files)
            found["built"][name] = there.build(generation.id, chosen.rows, is_server=name == "server")
            print(name, found["built"][name], flush=True)
            found["filters"][name] = asked_all(chosen, system, there.index, images, is_slow=name == "lite")
            if name == "server":
                found["rates"][name] = rates(system, there.index, images)
            save(chosen, "milvus", report | found)  # the slowest is the last
            found["built"][name]["problems"] = there.builder.verify(generation.id)
            save(chosen, "milvus", report | found)
    return report | found


def _milvuses(chosen: argparse.Namespace) -> list[tuple[str, str, Path]]:
    lite = (chosen.folder / "milvus.db").resolve()
    beside = [] if chosen.without_lite else [("lite", lite.as_uri().replace("file:", "milvus+file:"), lite)]
    there = [("server", chosen.server, chosen.server_folder)] if chosen.server else []
    return [*there, *beside]


def main() -> None:
    """Measure and write the report."""
    parser = options(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder for everything but the server")
    parser.add_argument("--rows", type=int, default=100_000, help="images")
    parser.add_argument("--width", type=int, default=512, help="numbers in a vector")
    parser.add_argument("--without-lite", action="store_true", help="leave Milvus Lite out")
    parser.add_argument("--again", action="store_true", help="ask the server that an earlier run has filled")
    parser.add_argument("--queries", type=int, default=40, help="for each filter")
    parser.add_argument("--server", help="as RAMQ_INDEX_URL: an empty server")
    parser.add_argument("--server-folder", type=Path, help="where the server keeps its files")
    chosen = parser.parse_args()
    if bool(chosen.server) != bool(chosen.server_folder) or (chosen.again and not chosen.server):
        parser.error("--server and --server-folder belong together, and --again needs both")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    report = begin(memory_gb=round(psutil.virtual_memory().total / 2**30))
    write(chosen, "milvus", (measure_again if chosen.again else measure)(chosen, report))


if __name__ == "__main__":
    main()

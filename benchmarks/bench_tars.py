"""Pictures in tar files against the same pictures as objects of their own: how fast they are planned and read.

    python -m benchmarks.bench_tars --quick

Runs on a real S3 server on this machine. The way there is made long by waiting before each request.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.memory import extra_bytes
from benchmarks.report import begin, options, write
from storage.objects.folder import FolderStore
from storage.objects.ignoring import Ignoring, Selection
from storage.objects.s3 import S3Store
from storage.objects.source import HOP_BYTES
from storage.objects.tars import RUN_BYTES, TarStore
from tests.services.s3 import s3_server
from tests.tar_files import packed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from storage.objects.base import Fetched, ObjectInfo, ObjectStore
    from tests.services.s3 import S3Server

THREADS = 16
"""As ``RAMQ_FETCH_THREADS``."""
MOST_BYTES = 10**9
ALWAYS_HOP, NEVER_HOP = 1, 10**12


class FarStore(S3Store):
    """A bucket whose answers take some time more, and which counts what it is asked."""

    def __init__(self, bucket: str, endpoint_url: str, seconds: float) -> None:
        super().__init__(bucket, endpoint_url)
        self.seconds = seconds
        self.requests = 0
        self.bytes = 0
        self._counting = threading.Lock()

    def _note(self, count: int) -> None:
        with self._counting:
            self.requests += 1
            self.bytes += count
        time.sleep(self.seconds)

    def list_objects(self, **how: Any) -> Any:
        """Wait, then ask."""
        self._note(0)
        return super().list_objects(**how)

    def fetch(self, key: str, version: str, max_bytes: int) -> Fetched:
        """Wait, then ask."""
        self._note(0)
        return super().fetch(key, version, max_bytes)

    def open(self, key: str, version: str, start: int, length: int) -> Iterator[bytes]:
        """Wait, then ask."""
        self._note(length)
        return super().open(key, version, start, length)


def samples(count: int, size: int, seed: int) -> dict[str, bytes]:
    """Make bodies of pictures around a size, each with a caption and facts, as img2dataset writes them."""
    rng = random.Random(seed)
    members: dict[str, bytes] = {}
    for number in range(count):
        name = f"{seed:05}{number:04}"
        members[f"{name}.jpg"] = rng.randbytes(int(size * rng.uniform(0.5, 1.5)))
        members[f"{name}.json"] = b'{"caption": "a picture", "width": 640, "height": 480}'
        members[f"{name}.txt"] = b"a picture"
    return members


def read_all(store: ObjectStore, infos: list[ObjectInfo]) -> int:
    """Read objects as a worker does, shard after shard, and return their bytes."""
    with ThreadPoolExecutor(THREADS) as pool:
        return sum(
            len(each.body) for each in pool.map(lambda one: store.fetch(one.key, one.version, MOST_BYTES), infos)
        )


def listed(store: ObjectStore, kind: Any = "tar") -> list[ObjectInfo]:
    """List what a job would read."""
    pages = store.pages("", None, Ignoring(Selection(), kind))
    return [info for page in pages for info in page if not info.ignored]


def timed(base: FarStore, do: Callable[[], object]) -> tuple[float, int, int]:
    """Return the seconds of something, and the requests and bytes that it took."""
    base.requests = base.bytes = 0
    began = time.perf_counter()
    do()
    return time.perf_counter() - began, base.requests, base.bytes


def measure_reading(server: S3Server, tars: int, each: int, size: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Read the same pictures as objects, as members one by one, and as members with their neighbours, in turns."""
    loose, packed_ = server.make_bucket(), server.make_bucket()
    for number in range(tars):
        members = samples(each, size, number)
        server.put(packed_, {f"{number:05}.tar": packed(members)})
        server.put(loose, {f"{number:05}/{name}": body for name, body in members.items() if name.endswith(".jpg")})
    base, single = (FarStore(name, server.endpoint_url, seconds) for name in (packed_, loose))
    ways: dict[str, tuple[FarStore, Callable[[], ObjectStore], Any]] = {
        "objects": (single, lambda: single, "s3"),
        "members_one_by_one": (base, lambda: TarStore(base, HOP_BYTES["s3"], 0), "tar"),
        "members_with_neighbours": (base, lambda: TarStore(base, HOP_BYTES["s3"], RUN_BYTES), "tar"),
    }
    taken: dict[str, list[tuple[float, int, int]]] = {name: [] for name in ways}
    infos = {name: listed(make(), kind) for name, (_, make, kind) in ways.items()}
    for _ in range(rounds):
        for name, (counted, make, _kind) in ways.items():
            store = make()
            taken[name].append(timed(counted, lambda store=store, name=name: read_all(store, infos[name])))
    count = tars * each
    if any(len(found) != count for found in infos.values()):
        raise RuntimeError("not every picture was listed: the figures mean nothing")
    found: dict[str, Any] = {}
    for name, runs in taken.items():
        found[f"{name}_per_second"] = round(count / statistics.median(each for each, _, _ in runs), 1)
        found[f"{name}_requests"] = runs[-1][1]
    return found


def measure_planning(server: S3Server, tars: int, each: int, size: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Read the headers of tar files from header to header, by reading all, and as ramq chooses, in turns."""
    bucket = server.make_bucket()
    for number in range(tars):
        server.put(bucket, {f"{number:05}.tar": packed(samples(each, size, number))})
    base = FarStore(bucket, server.endpoint_url, seconds)
    ways = {"hopping": ALWAYS_HOP, "reading_all": NEVER_HOP, "chosen": HOP_BYTES["s3"]}
    taken: dict[str, list[tuple[float, int, int]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, hop in ways.items():
            taken[name].append(timed(base, lambda hop=hop: listed(TarStore(base, hop))))
    found: dict[str, Any] = {}
    for name, runs in taken.items():
        found[f"{name}_seconds"] = round(statistics.median(run[0] for run in runs), 3)
        found[f"{name}_requests"] = runs[-1][1]
        found[f"{name}_megabytes"] = round(runs[-1][2] / 1e6, 1)
    return found


def measure_scale(folder: Path, members: int) -> dict[str, Any]:
    """List many members of local tar files, each of ten thousand, and watch the memory."""
    each, size = 10_000, 1_000
    first = folder / "00000.tar"
    first.write_bytes(packed({f"{number:09}.jpg": bytes(size) for number in range(each)}))
    for number in range(1, members // each):
        os.link(first, folder / f"{number:05}.tar")
    store, seconds, counts = TarStore(FolderStore(folder), HOP_BYTES["file"]), [], []

    def list_all() -> None:
        began = time.perf_counter()
        counts.append(sum(len(page) for page in store.pages("", None, Ignoring(Selection(), "tar"))))
        seconds.append(time.perf_counter() - began)

    more = extra_bytes(list_all, torch.device("cpu"))
    if counts != [members]:
        raise RuntimeError(f"{counts} of {members} members were listed: the figures mean nothing")
    return {"members": members, "per_second": round(members / seconds[0]), "megabytes_more": round(more / 1e6, 1)}


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure reading and planning near and far, for small and large pictures, and one large listing."""
    found: dict[str, Any] = {}
    rounds = 2 if chosen.quick else 3
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "many").mkdir()
        found["listing of local tar files"] = measure_scale(root / "many", 100_000 if chosen.quick else 1_000_000)
        (root / "s3").mkdir()
        with s3_server(root / "s3") as server:
            os.environ.update(server.environment)
            for milliseconds in (0, chosen.milliseconds):
                far = milliseconds / 1000
                where = f"{milliseconds} ms added to each request"
                found[f"reading 1,000 pictures of 50 kB, {where}"] = measure_reading(
                    server, 2, 500, 50_000, far, rounds
                )
                found[f"reading 60 pictures of 3 MB, {where}"] = measure_reading(server, 2, 30, 3_000_000, far, rounds)
                found[f"planning 2 tar files of 500 pictures of 50 kB, {where}"] = measure_planning(
                    server, 2, 500, 50_000, far, rounds
                )
                found[f"planning 2 tar files of 20 pictures of 5 MB, {where}"] = measure_planning(
                    server, 2, 20, 5_000_000, far, rounds
                )
    return found


def main() -> None:
    """Measure, print a table, write a file."""
    parser = options(__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and members")
    parser.add_argument("--milliseconds", type=int, default=30, help="added to each request the second time")
    chosen = parser.parse_args()
    report = begin()
    tars = run(chosen)
    for name, figures in tars.items():
        print(f"{name:75} " + "  ".join(f"{key} {value}" for key, value in figures.items()))
    report |= {"quick": chosen.quick, "tars": tars}
    write(chosen, "tars", report)


if __name__ == "__main__":
    main()

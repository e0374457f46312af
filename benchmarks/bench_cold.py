"""Vector search over more vectors than memory: time, reads and recall with a cache that holds a part of the index.

    python -m benchmarks.bench_cold --folder DATA --rows 10000000 --make    # once: 13 GB, most of an hour
    python -m benchmarks.bench_cold --folder DATA --rows 10000000 --cache-gb 4

Each way to search runs as a process of its own in a control group, whose memory and page cache together are limited
(cgroup v1 or v2; needs root).

* ``dropped``: before each query, all files are closed and dropped from the page cache. The time to open them counts.
* ``steady``: new queries, after others have filled the cache, as many in each way.
* ``again``: the same few queries a second time, so that everything they need is in memory.
* ``scan``: all vectors of one segment, after its files were dropped.

The ways:

* ``faults``: each part by itself, and page faults, each of which waits for the disk.
* ``alone``: each part by itself, with pages asked for before they are read.
* ``together``: as ``storage.index`` does it: the candidates of all parts together, then asked for, then read.

``disk`` is what the disk does without the page cache, in the same run. ``order`` is how the candidates of one segment
lie in the file of its vectors, and how they would if it were ordered by list.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.cold_data import made, opened
from benchmarks.report import begin, options, write
from benchmarks.search_data import CHUNK, WIDTH, Maker
from storage.index.mapped import PAGE, MappedFile, pieces
from storage.index.selection import Selection
from storage.index.vectors import EXACT_FILE, faiss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from storage.index.part import Part

K = 10
QUERIES = 6_000
KNOWN = 100
"""Of the last queries it is known how near the true nearest are."""

_ROUNDING = 1e-5

WAYS = ("faults", "alone", "together")
SEGMENT_ROWS = 2_000_000
_GROUPS = Path("/sys/fs/cgroup")
_DISK_READS = 256


class Searcher:
    """Opened segments, searched in one way.

    Args:
        folders: of the segments.
        way: one of ``WAYS``.
    """

    def __init__(self, folders: Sequence[Path], way: str) -> None:
        self.folders, self.way = folders, way
        self._threads = ThreadPoolExecutor(os.cpu_count())
        self._parts: tuple[Part, ...] = ()
        if way == "faults":
            MappedFile.ask = _wait_for_faults  # type: ignore[method-assign]
        self.open()

    def close(self) -> None:
        """Close the segments, and drop them from memory."""
        self._parts = ()
        for folder in self.folders:
            drop(folder)

    def nearest(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the scores of the best ``K``, best first."""
        if self.way == "together":
            return Selection(tuple((part, None) for part in self._parts), is_narrowed=False).nearest(query, K)[1]
        found = list(self._threads.map(lambda part: part.nearest(query, K), self._parts))
        scores = np.sort(np.concatenate([scores for _, scores in found]))[::-1][:K]
        for part, (rows, _) in zip(self._parts, found, strict=True):
            part.rows.ids[rows]  # which every search needs
        return scores

    def scanned(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the scores of the best ``K`` of the first segment, by comparing all of its vectors."""
        return self._parts[0].vectors.search(query, K, by_lists=False)[1]

    def open(self) -> None:
        """Open the segments."""
        self._parts = tuple(opened(folder) for folder in self.folders)


def _wait_for_faults(self: MappedFile, starts: NDArray[np.int64], lengths: NDArray[np.int64] | int) -> None:
    """Ask for nothing, as it was before."""


def drop(folder: Path) -> None:
    """Drop the files of a folder from the page cache. Pages that a process has mapped stay."""
    for file in folder.iterdir():
        with file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(
    searcher: Searcher,
    search: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    queries: NDArray[np.float32],
    *,
    dropping: bool = False,
) -> tuple[dict[str, Any], list[NDArray[np.float32]]]:
    """Search for one query after the other; return times and reads, and what was found."""
    taken, reads, faults, found = [], [], [], []
    for query in queries:
        if dropping:
            searcher.close()
        read, fault, began = bytes_read(), resource.getrusage(resource.RUSAGE_SELF).ru_majflt, time.perf_counter()
        if dropping:
            searcher.open()
        found.append(search(query))
        taken.append(1000 * (time.perf_counter() - began))
        reads.append((bytes_read() - read) / 2**20)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_majflt - fault)
    figures = {
        "queries": len(taken),
        "p50_ms": round(float(np.median(taken)), 2),
        "p95_ms": round(float(np.percentile(taken, 95)), 2),
        "read_mb": round(float(np.mean(reads)), 2),
        "waits_for_a_page": round(float(np.mean(faults)), 1),
    }
    return figures, found


def bytes_read() -> int:
    """Return what this process has made the disk read so far."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines())
    return int(fields["read_bytes"])


def ways(folders: Sequence[Path], way: str, filling: int, measured: int, kinds: Sequence[str]) -> dict[str, Any]:
    """Measure one way in this process, which is in its control group. Each kind has queries of its own."""
    with np.load(truth_file(folders)) as known:
        queries, bars = known["queries"], known["bars"]
    searcher = Searcher(folders, way)
    figures: dict[str, Any] = {}
    if "dropped" in kinds:
        searcher.nearest(queries[0])  # starts threads
        figures["dropped"], _ = measure(searcher, searcher.nearest, queries[1 : 1 + measured // 10], dropping=True)
    if "steady" in kinds:
        measure(searcher, searcher.nearest, queries[KNOWN : KNOWN + filling])
        figures["filled_with"] = filling
        figures["steady"], found = measure(searcher, searcher.nearest, queries[-KNOWN:][:measured])
        # Scores are compared, not images: of equal images any will do.
        shares = [np.count_nonzero(scores >= bar - _ROUNDING) / K for scores, bar in zip(found, bars, strict=False)]
        figures["recall_at_10"] = round(float(np.mean(shares)), 4)
    if "again" in kinds:
        few = queries[-2 * KNOWN : -KNOWN][:measured]
        measure(searcher, searcher.nearest, few)
        figures["again"], _ = measure(searcher, searcher.nearest, few)
    if "scan" in kinds:
        figures["scan"], _ = measure(searcher, searcher.scanned, queries[:1], dropping=True)
    return figures


def truth_file(folders: Sequence[Path]) -> Path:
    """Return where the queries and their true nearest are."""
    return folders[0].parent.parent / f"nearest-{len(folders)}.npz"


def know(folders: Sequence[Path]) -> None:
    """Find how near the true nearest of the last queries are, by scans, and store that with all queries."""
    file = truth_file(folders)
    if file.exists():
        return
    queries = Maker(WIDTH).queries(QUERIES)
    best: dict[str, NDArray[np.float32]] = {}  # of each segment by its name, which a copy shares
    for folder in folders:
        if folder.name in best:
            continue
        vectors = opened(folder).vectors
        scores = []
        for start in range(0, len(vectors), CHUNK):
            # A product of matrices takes a tenth of the time of FAISS' scans.
            codes = vectors.codes(np.arange(start, min(start + CHUNK, len(vectors))))
            scores.append(np.partition(queries[-KNOWN:] @ codes.astype(np.float32).T, -K, axis=1)[:, -K:])
        best[folder.name] = np.sort(np.concatenate(scores, axis=1), axis=1)[:, -K:]
    of_all = np.concatenate([best[folder.name] for folder in folders], axis=1)
    np.savez(file, queries=queries, bars=np.sort(of_all, axis=1)[:, -K])


def order(folder: Path, queries: NDArray[np.float32]) -> dict[str, Any]:
    """Return in how many pages and pieces the candidates of a query lie: ordered by id, as they are, or by list."""
    vectors = opened(folder).vectors
    lists = faiss.downcast_index(faiss.extract_index_ivf(vectors.coarse)).invlists
    places, list_of = np.empty(len(vectors), dtype=np.int64), np.empty(len(vectors), dtype=np.int64)
    begin_at = 0
    for number in range(lists.nlist):
        size = lists.list_size(number)
        rows = faiss.rev_swig_ptr(lists.get_ids(number), size) if size else np.empty(0, dtype=np.int64)
        places[rows], list_of[rows] = np.arange(begin_at, begin_at + size), number
        begin_at += size
    width = 2 * vectors.vector_size
    counts: dict[str, list[int]] = {"candidates": [], "lists": []}
    for query in queries:
        rows, _ = vectors.near(query, 1.0)
        counts["candidates"].append(len(rows))
        counts["lists"].append(len(np.unique(list_of[rows])))
        for name, where in (("by id", rows), ("by list", places[rows])):
            counts.setdefault(f"pages, {name}", []).append(len(np.unique(where * width // PAGE)))
            counts.setdefault(f"pieces, {name}", []).append(len(pieces(where * width, width)))
    return {name: round(float(np.mean(values)), 1) for name, values in counts.items()}


def disk(file: Path) -> dict[str, Any]:
    """Return how fast the disk reads random pages, one or 32 at a time, and long pieces; without the page cache."""
    descriptor = os.open(file, os.O_RDONLY | os.O_DIRECT)
    size = os.fstat(descriptor).st_size
    rng = np.random.default_rng()

    def read(block: int, place: int) -> float:
        buffer = mmap.mmap(-1, block)
        began = time.perf_counter()
        os.preadv(descriptor, [buffer], place)
        return time.perf_counter() - began

    found: dict[str, Any] = {}
    for name, block, threads, count in (
        ("random pages, one at a time", 4096, 1, 2 * _DISK_READS),
        ("random pages, 32 at a time", 4096, 32, 16 * _DISK_READS),
        ("pieces of a megabyte, 4 at a time", 2**20, 4, _DISK_READS),
    ):
        places = (rng.integers(0, size // block, count) * block).tolist()
        with ThreadPoolExecutor(threads) as pool:
            began = time.perf_counter()
            taken = list(pool.map(partial(read, block), places))
            passed = time.perf_counter() - began
        found[name] = {
            "p50_ms": round(1000 * float(np.median(taken)), 3),
            "p95_ms": round(1000 * float(np.percentile(taken, 95)), 3),
            "per_second": round(count / passed),
            "mb_per_second": round(count * block / passed / 2**20),
        }
    os.close(descriptor)
    return found


@contextmanager
def limited(name: str, limit: int) -> Iterator[Path]:
    """Yield the list of processes of a new control group, whose memory and page cache are limited to so many bytes."""
    is_old = (_GROUPS / "memory").is_dir()
    group = (_GROUPS / "memory" if is_old else _GROUPS) / name
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if is_old else "memory.max")).write_text(str(limit), encoding="ascii")
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def run_limited(way: str, limit: int, arguments: Sequence[str]) -> dict[str, Any]:
    """Measure one way in a process with so much memory and page cache."""
    with limited(f"ramq-bench-{os.getpid()}-{way}", limit) as processes:

        def join() -> None:
            processes.write_text(str(os.getpid()), encoding="ascii")

        command = [sys.executable, "-m", "benchmarks.bench_cold", *arguments, "--way", way]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, preexec_fn=join)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def main() -> None:
    """Make the segments, or measure every way in turn and write a file."""
    parser = options(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the segments are kept")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--distinct", type=int, default=1_000, help="segments to make; the others are copies of them")
    parser.add_argument("--make", action="store_true", help="make them and find the true nearest, then stop")
    parser.add_argument("--cache-gb", type=float, default=4.0, help="memory and page cache of the process")
    parser.add_argument("--filling", type=int, default=200, help=f"queries before, up to {QUERIES - 3 * KNOWN}")
    parser.add_argument("--measured", type=int, default=KNOWN, help="queries, 10 to 100; a tenth for dropped")
    parser.add_argument("--ways", nargs="+", default=WAYS)
    parser.add_argument("--kinds", nargs="+", default=["dropped", "steady", "again", "scan"])
    parser.add_argument("--way", help="measure this way in this process")
    chosen = parser.parse_args()
    folders = list(made(chosen.folder, chosen.rows, SEGMENT_ROWS, WIDTH, chosen.distinct))
    if chosen.way:
        print(json.dumps(ways(folders, chosen.way, chosen.filling, chosen.measured, chosen.kinds)))
        return
    know(folders)
    if chosen.make:
        return
    limit = int(chosen.cache_gb * 2**30)
    report = begin() | {
        "rows": chosen.rows,
        "segments": len(folders),
        "distinct_segments": min(len(folders), chosen.distinct),
        "cache_gb": chosen.cache_gb,
        "index_gb": round(sum(file.stat().st_size for folder in folders for file in folder.iterdir()) / 2**30, 2),
        "disk": disk(folders[0] / EXACT_FILE),
        "read_ahead_kb": _read_ahead(folders[0]),
        "order": order(folders[0], Maker(WIDTH).queries(KNOWN)),
    }
    for way in chosen.ways:
        for folder in folders:
            drop(folder)
        report[way] = run_limited(way, limit, sys.argv[1:])
        print(way, json.dumps(report[way], indent=1), flush=True)
    print(json.dumps(report["disk"], indent=1))
    write(chosen, "cold", report)


def _read_ahead(folder: Path) -> int | None:
    """Return how much the kernel reads around a page fault on this disk, in kB."""
    device = folder.stat().st_dev
    file = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/queue/read_ahead_kb")
    return int(file.read_text(encoding="ascii")) if file.exists() else None


if __name__ == "__main__":
    main()

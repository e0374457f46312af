"""A mapped file of which few and scattered places are needed: ask for all of them at once, then read them.

A page fault waits for the disk, one page after the other, and by default the kernel also reads what lies around that
page: 128 kB on most machines, 8 MB on some. A search that touches a thousand rows would wait a thousand times, and push
out of memory what the next search needs. Here, only the pages that are asked for are read, all at the same time.
"""

from __future__ import annotations

import itertools
import mmap
import resource
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

PAGE = mmap.PAGESIZE

GAP_PAGES = 4
"""Places with at most so many pages between them are read in one piece: that takes less time than two requests."""

FEW_BYTES = 64 * 1024
"""A search that read no more than this from disk found nearly everything in memory."""

MANY_WARM = 32
"""After so many searches in a row that read nearly nothing, a file counts as being in memory. One may just have been
asked before, and the next would then wait for each of its pages."""

PIECE_BYTES = 128 * 1024
"""The kernel reads no more of what it is asked for at once than its read-ahead: so much by default."""


class MappedFile:
    """A file mapped for scattered reads. Thread-safe.

    Asking costs some microseconds for each place, also if it is in memory: a third of a search that has everything
    there. So a file is asked for as long as searches read from disk, and not while many in a row find all in memory.

    Some file systems do not count reads (FUSE, NFS). So a file of which nothing was ever read is asked for in any case.

    Args:
        path: a file that is not empty.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is empty.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as stream:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):
            self._map.madvise(mmap.MADV_RANDOM)
        self.is_cold = True
        self._lock = threading.Lock()
        self._warm_searches = 0
        self._is_counted = False

    def __len__(self) -> int:
        return len(self._map)

    def last(self, rows: int, width: int) -> NDArray[np.uint8]:
        """Return the last bytes of the file as (``rows``, ``width``). Raises ``ValueError`` if it has fewer."""
        start = len(self) - rows * width
        if start < 0:
            raise ValueError(f"the file has {len(self)} bytes, fewer than {rows} rows of {width}")
        return np.frombuffer(self._map, dtype=np.uint8, offset=start).reshape(rows, width)

    def fetch_start(self, end: int) -> None:
        """Ask the kernel to read everything before byte ``end``, in memory or not."""
        self.ask(np.zeros(1, dtype=np.int64), min(end, len(self)))

    def fetch(self, starts: NDArray[np.int64], lengths: NDArray[np.int64] | int) -> None:
        """Ask the kernel to read these places, (N,) each, unless the file seems to be in memory. Does not wait.

        Python holds its lock meanwhile. Giving it back for each place could cost a busy process milliseconds each time.
        """
        if self.is_cold:
            self.ask(starts, lengths)

    @contextmanager
    def fetched(self, starts: NDArray[np.int64], lengths: NDArray[np.int64] | int) -> Iterator[None]:
        """``fetch`` places, and ``learn`` how much the block, which reads them in this thread, reads from disk."""
        before = disk_bytes()
        self.fetch(starts, lengths)
        yield
        self.learn(disk_bytes() - before)

    def learn(self, disk_bytes: int) -> None:
        """Note how much a search read from disk that asked for places of this file, or did not have to."""
        with self._lock:
            self._is_counted = self._is_counted or disk_bytes > 0
            self._warm_searches = 0 if disk_bytes > FEW_BYTES else self._warm_searches + 1
            self.is_cold = self._warm_searches < MANY_WARM or not self._is_counted

    def ask(self, starts: NDArray[np.int64], lengths: NDArray[np.int64] | int) -> None:
        """Do what ``fetch`` does, in memory or not."""
        if hasattr(mmap, "MADV_WILLNEED"):
            for start, length in pieces(starts, lengths):
                for at in range(start, start + length, PIECE_BYTES):
                    self._map.madvise(mmap.MADV_WILLNEED, at, min(PIECE_BYTES, start + length - at))


def disk_bytes() -> int:
    """Return how much this thread has read from disk so far. Where the system does not tell, each call returns more."""
    if hasattr(resource, "RUSAGE_THREAD"):
        return 512 * resource.getrusage(resource.RUSAGE_THREAD).ru_inblock
    return next(_UNKNOWN)


_UNKNOWN = itertools.count(step=2 * FEW_BYTES)


def pieces(starts: NDArray[np.int64], lengths: NDArray[np.int64] | int) -> list[tuple[int, int]]:
    """Return places as whole pages, (first byte, bytes), joined where they lie close together."""
    if len(starts) == 0:
        return []
    order = np.argsort(starts)
    first = starts[order] // PAGE
    ends: NDArray[Any] = starts + lengths
    stop = np.maximum.accumulate(-(-ends[order] // PAGE))
    is_new = np.concatenate([[True], first[1:] > stop[:-1] + GAP_PAGES])
    begins = np.flatnonzero(is_new)
    stops = stop[np.concatenate([begins[1:] - 1, [len(stop) - 1]])]
    return list(zip((first[begins] * PAGE).tolist(), ((stops - first[begins]) * PAGE).tolist(), strict=True))

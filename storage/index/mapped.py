"""A mapped file of which few and scattered places are needed: ask for all of them at once, then read them.

A page fault waits for the disk, one page after the other, and by default the kernel also reads what lies around that
page: 128 kB on most machines, 8 MB on some. A search that touches a thousand rows would wait a thousand times, and push
out of memory what the next search needs. Here, only the pages that are asked for are read, all at the same time.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PAGE = mmap.PAGESIZE

GAP_PAGES = 4
"""Places with at most so many pages between them are read in one piece: that takes less time than two requests."""

PIECE_BYTES = 128 * 1024
"""The kernel reads no more of what it is asked for at once than its read-ahead: so much by default."""


class MappedFile:
    """A file mapped for scattered reads. Immutable and thread-safe.

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

    def __len__(self) -> int:
        return len(self._map)

    def last(self, rows: int, width: int) -> NDArray[np.uint8]:
        """Return the last bytes of the file as (``rows``, ``width``). Raises ``ValueError`` if it has fewer."""
        start = len(self) - rows * width
        if start < 0:
            raise ValueError(f"the file has {len(self)} bytes, fewer than {rows} rows of {width}")
        return np.frombuffer(self._map, dtype=np.uint8, offset=start).reshape(rows, width)

    def fetch_all(self, end: int | None = None) -> None:
        """Ask the kernel to read everything before byte ``end`` (None: the whole file)."""
        self.fetch(np.zeros(1, dtype=np.int64), len(self) if end is None else min(end, len(self)))

    def fetch(self, starts: NDArray[np.int64], lengths: NDArray[np.int64] | int) -> None:
        """Ask the kernel to read these places, (N,) each, and return before it has. What is in memory costs little.

        Python holds its lock meanwhile. Giving it back for each place could cost a busy process milliseconds each time.
        """
        if hasattr(mmap, "MADV_WILLNEED"):
            for start, length in pieces(starts, lengths):
                for at in range(start, start + length, PIECE_BYTES):
                    self._map.madvise(mmap.MADV_WILLNEED, at, min(PIECE_BYTES, start + length - at))


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

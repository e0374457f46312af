"""Vectors of a tag in a file while it is cleaned: there may be a million, and they are read several times."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from numpy.typing import NDArray

BLOCK = 4096
"""Rows in a block."""


class Spool:
    """Rows of float16, added in blocks and read in blocks as often as one likes. A context manager: it owns a file.

    Args:
        between: called before each block is read. What it raises ends the reading.
    """

    def __init__(self, between: Callable[[], None] = lambda: None) -> None:
        self._between = between
        self._folder = tempfile.TemporaryDirectory(prefix="ramq-clean-")
        self._path = Path(self._folder.name) / "rows"
        self._file = self._path.open("wb")
        self._width = 0
        self.count = 0

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Delete the file."""
        self._file.close()
        self._folder.cleanup()

    def add(self, rows: NDArray[np.float16]) -> None:
        """Add (n, D) rows."""
        if len(rows):
            self._width = rows.shape[1]
            self._file.write(np.ascontiguousarray(rows, dtype="<f2").tobytes())
            self.count += len(rows)

    def __iter__(self) -> Iterator[NDArray[np.float16]]:
        """Yield all rows, in (n, D) blocks."""
        if not self.count:
            return
        self._file.flush()
        size = BLOCK * self._width
        with self._path.open("rb") as file:
            while len(numbers := np.fromfile(file, dtype="<f2", count=size)):
                self._between()
                yield numbers.reshape(-1, self._width)

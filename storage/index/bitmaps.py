"""Between numpy's arrays of row numbers and roaring bitmaps, without a Python integer for every row."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np
from pyroaring import BitMap

if TYPE_CHECKING:
    from numpy.typing import NDArray


def bitmap_of(rows: NDArray[np.uint32]) -> BitMap:
    """Return a bitmap of row numbers, in any order."""
    numbers = array("I")  # the only kind of sequence that pyroaring copies in one piece
    numbers.frombytes(np.ascontiguousarray(rows, dtype=np.uint32).tobytes())
    return BitMap(numbers)


def rows_in(bitmap: BitMap) -> NDArray[np.uint32]:
    """Return the row numbers of a bitmap, ascending. Not to be written to."""
    return np.frombuffer(bitmap.to_array(), dtype=np.uint32)

"""The vectors of a part: which rows are nearest to a query. Knows rows by number only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import faiss as _faiss
import numpy as np

from storage.index.bitmaps import rows_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from pyroaring import BitMap

# Its type hints are those of the C++ classes, not of the Python layer that replaces their constructors.
faiss: Any = _faiss

EXACT = "SQfp16"
"""FAISS' factory string of the exact index: the vectors are float16 already, so nothing is lost and half is saved."""

ROWS_AT_ONCE = 20_000
"""Rows that are turned into float32 at a time while an index is built."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """A FAISS index of N rows, inner product. Safe to search from several threads."""

    index: Any

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def vector_size(self) -> int:
        """D, the numbers of one vector."""
        return int(self.index.d)

    def search(
        self, query: NDArray[np.float32], k: int, selected: BitMap | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return up to ``k`` (rows, inner products), best first.

        Args:
            query: (D,).
            k: at least 1.
            selected: rows that may be found; None: all of them.
        """
        k = min(k, len(self))
        if k == 0 or (selected is not None and not selected):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        parameters = None
        if selected is not None:
            is_selected = np.zeros(len(self), dtype=np.bool_)
            is_selected[rows_in(selected)] = True
            bits = np.packbits(is_selected, bitorder="little")
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
        scores, rows = self.index.search(query[np.newaxis], k, params=parameters)
        found = rows[0] >= 0  # FAISS fills up with -1
        return rows[0][found], scores[0][found]

    def vector(self, row: int) -> NDArray[np.float32]:
        """Return the vector of a row as (D,)."""
        vector: NDArray[np.float32] = self.index.reconstruct(row)
        return vector

    def codes(self, rows: NDArray[np.intp]) -> NDArray[np.float16]:
        """Return the vectors of some rows as (K, D)."""
        if len(rows) == 0:
            return np.empty((0, self.vector_size), dtype=np.float16)
        vectors: NDArray[np.float32] = self.index.reconstruct_batch(rows.astype(np.int64))
        return vectors.astype(np.float16)

    def write(self, write: Callable[[bytes], None]) -> None:
        """Hand over the bytes of the file."""
        faiss.write_index(self.index, faiss.PyCallbackIOWriter(write))


def build_vectors(codes: NDArray[np.float16]) -> Vectors:
    """Return an index, in memory, of vectors (N, D)."""
    index = faiss.index_factory(codes.shape[1], EXACT, faiss.METRIC_INNER_PRODUCT)
    for start in range(0, len(codes), ROWS_AT_ONCE):
        index.add(codes[start : start + ROWS_AT_ONCE].astype(np.float32))
    return Vectors(index)


def open_vectors(path: Path) -> Vectors:
    """Map an index. Raises ``RuntimeError`` where FAISS cannot make sense of it."""
    return Vectors(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC))

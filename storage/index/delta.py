"""The delta: vectors that are newer than every segment, in memory, searched exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FIRST_CAPACITY = 256


@dataclass(frozen=True, slots=True)
class DeltaView:
    """The delta as it was at one moment. Safe to search while the delta grows.

    Attributes:
        ids: (N,) int64.
        vectors: (N, D) float32.
        is_live: (N,) whether the row is the newest of its image and was not erased.
    """

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    is_live: NDArray[np.bool_]

    def search(
        self, query: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return up to ``k`` (image ids, inner products), the best in any order. ``allowed`` None: all of them."""
        rows = np.flatnonzero(self.is_live if allowed is None else self.is_live & np.isin(self.ids, allowed))
        # Picking rows copies them, which costs more than scoring a few too many.
        scores = self.vectors[rows] @ query if 2 * len(rows) < len(self.ids) else (self.vectors @ query)[rows]
        if len(rows) > k:
            best = np.argpartition(scores, len(rows) - k)[len(rows) - k :]
            rows, scores = rows[best], scores[best]
        return self.ids[rows], scores


class Delta:
    """Rows that are added or replaced, and rows that are erased. Not thread-safe; its views are."""

    def __init__(self, vector_size: int) -> None:
        self._ids = np.empty(_FIRST_CAPACITY, dtype=np.int64)
        self._vectors = np.empty((_FIRST_CAPACITY, vector_size), dtype=np.float32)
        self._is_live = np.zeros(_FIRST_CAPACITY, dtype=np.bool_)
        self._row_of: dict[int, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add rows; what was read later replaces what was read before."""
        end = self._count + len(ids)
        if end > len(self._ids):
            # New arrays, not resized ones: older views keep theirs.
            room = max(end, 2 * len(self._ids)) - len(self._ids)
            self._ids = np.concatenate([self._ids, np.empty(room, dtype=np.int64)])
            self._vectors = np.concatenate([self._vectors, np.empty((room, self._vectors.shape[1]), dtype=np.float32)])
            self._is_live = np.concatenate([self._is_live, np.zeros(room, dtype=np.bool_)])
        self._ids[self._count : end] = ids
        self._vectors[self._count : end] = vectors
        self._is_live[self._count : end] = True
        for row, image_id in enumerate(ids.tolist(), start=self._count):
            replaced = self._row_of.get(image_id)
            if replaced is not None:
                self._is_live[replaced] = False
            self._row_of[image_id] = row
        self._count = end

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Forget the images among ``ids`` that are here."""
        for image_id in ids.tolist():
            row = self._row_of.pop(image_id, None)
            if row is not None:
                self._is_live[row] = False

    def view(self) -> DeltaView:
        """Return the rows as they are now. Rows are never changed in place, only marked, so the marks are copied."""
        count = self._count
        return DeltaView(self._ids[:count], self._vectors[:count], self._is_live[:count].copy())

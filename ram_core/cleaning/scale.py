"""Mean and deviation of features. Without them, distances say little.

Networks end in features that are never negative and of very different sizes, so all pictures point in nearly the same
direction. Distances are then ruled by the few largest features. After the mean of all pictures is taken away, and each
number divided by its deviation, a distance says how different two pictures are for this data set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ram_core.errors import CleaningError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

_TINY = 1e-6  # a feature that hardly varies says nothing, and must not be blown up


@dataclass(frozen=True, slots=True, eq=False)
class FeatureScale:
    """Mean and deviation of each feature, over pictures or regions of all tags of a data set.

    Attributes:
        mean: (D,) float32.
        deviation: (D,) float32, above 0; infinite for a feature that never varies.
    """

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    @classmethod
    def of(cls, blocks: Iterable[NDArray[np.floating[Any]]]) -> FeatureScale:
        """Compute them from (n, D) blocks, read once. Some thousand random rows are enough.

        Raises:
            CleaningError: there are no rows, widths differ, or a number is not finite.
        """
        count, mean, squares = 0, np.zeros(0), np.zeros(0)
        for block in blocks:
            rows = checked(block, mean.size or None).astype(np.float64)
            if not len(rows):
                continue
            if not count:
                mean, squares = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
            # Chan, Golub, LeVeque (1979): the sums of two parts together, without the loss of a sum of squares.
            own = rows.mean(axis=0)
            both = count + len(rows)
            squares += ((rows - own) ** 2).sum(axis=0) + (own - mean) ** 2 * (count * len(rows) / both)
            mean += (own - mean) * (len(rows) / both)
            count = both
        if not count:
            raise CleaningError("no features to compute a scale from")
        deviation = np.sqrt(squares / count)
        deviation[deviation < _TINY] = np.inf
        return cls(mean.astype(np.float32), deviation.astype(np.float32))

    def apply(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return (n, D) float32 rows of unit length, of features minus mean, divided by deviation.

        Raises:
            CleaningError: the features have another width, or are not finite.
        """
        rows = checked(features, self.mean.size).astype(np.float32)
        rows -= self.mean
        rows /= self.deviation
        return _unit(rows)


def unscaled(features: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return (n, D) float32 rows of unit length, for features that are comparable as they are."""
    return _unit(checked(features, None).astype(np.float32))


def checked(features: NDArray[np.floating[Any]], width: int | None) -> NDArray[np.floating[Any]]:
    """Return features that are (n, D) and finite.

    Raises:
        CleaningError: they are not, or D is not ``width``.
    """
    if features.ndim != 2 or not features.shape[1] or (width is not None and features.shape[1] != width):
        wanted = "(n, D)" if width is None else f"(n, {width})"
        raise CleaningError(f"features are {features.shape}, not {wanted}: of another model?")
    if not np.isfinite(features).all():
        raise CleaningError("features have numbers that are not finite; compute them again")
    return features


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    np.divide(rows, lengths, out=rows, where=lengths > 0)
    return rows

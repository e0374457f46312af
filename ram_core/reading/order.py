"""The order in which a person would read lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def reading_order(polygons: NDArray[Any]) -> list[int]:
    """Return the indices of (N, 4, 2) polygons, in pixels, in reading order."""
    return [int(i) for i in np.lexsort((polygons[:, 0, 0], polygons[:, 0, 1]))]

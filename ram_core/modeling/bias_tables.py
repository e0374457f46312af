"""Relative position biases for windows of another size, as the official code makes them.

Its rule is that of BEiT (arXiv:2106.08254): old positions are spread so that the distance between neighbours grows by a
constant factor away from the centre, then a cubic spline through them is read at the new positions. In one dimension
that is a matrix that depends on the two sizes alone; tables have two dimensions, rows and columns.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ram_core.errors import ModelError

Numbers = NDArray[np.float64]

# Between these the official code looks for the factor; so tables for smaller windows are read at their centre.
_LEAST_FACTOR, _MOST_FACTOR = 1.01, 1.5
_PRECISION = 1e-6
_KNOTS = 4  # a cubic spline needs as many


def resizing(source: int, target: int) -> torch.Tensor:
    """Return the float64 matrix (target^2, source^2) from tables of side ``source`` to tables of side ``target``.

    Raises:
        ModelError: the source is too small.
    """
    if source < _KNOTS:
        raise ModelError(
            f"windows of {(source + 1) // 2} tokens are too small to make larger ones from; "
            "use weights that were trained with larger images"
        )
    line = _spline(_spread(source // 2, target // 2), np.arange(target, dtype=np.float64) - target // 2)
    return torch.from_numpy(np.kron(line, line))


def _spread(count: int, reach: int) -> Numbers:
    """Return 2 ``count`` + 1 positions, symmetric about 0, of which the last is at ``reach`` if the factor allows."""
    low, high = _LEAST_FACTOR, _MOST_FACTOR
    factor = low
    while high - low > _PRECISION:
        factor = (low + high) / 2
        if (1 - factor**count) / (1 - factor) > reach:
            high = factor
        else:
            low = factor
    steps = np.cumsum(factor ** np.arange(count))
    return np.concatenate([-steps[::-1], [0.0], steps])


def _spline(knots: Numbers, at: Numbers) -> Numbers:
    """Return the matrix from values at ``knots`` to those of their cubic spline at other positions.

    The ends are those of FITPACK: no knot at the second and the last but one position, and outside the value of the
    nearest knot.
    """
    count = len(knots)
    gaps = np.diff(knots)
    # Second derivatives M of the spline: left @ M = right @ values.
    left, right = np.zeros((count, count)), np.zeros((count, count))
    for i in range(1, count - 1):
        before, after = gaps[i - 1], gaps[i]
        left[i, i - 1 : i + 2] = before, 2 * (before + after), after
        right[i, i - 1 : i + 2] = 6 / before, -6 / before - 6 / after, 6 / after
    left[0, :3] = -gaps[1], gaps[0] + gaps[1], -gaps[0]  # the third derivative does not jump at knot 1
    left[-1, -3:] = -gaps[-1], gaps[-2] + gaps[-1], -gaps[-2]
    curvature = np.linalg.solve(left, right)
    values = np.eye(count)
    at = np.clip(at, knots[0], knots[-1])
    cell = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, count - 2)
    gap = gaps[cell, None]
    near = (knots[cell + 1, None] - at[:, None]) / gap  # weight of the knot before
    far = 1 - near
    straight = near * values[cell] + far * values[cell + 1]
    bent = (near**3 - near) * curvature[cell] + (far**3 - far) * curvature[cell + 1]
    matrix: Numbers = straight + bent * gap**2 / 6
    return matrix

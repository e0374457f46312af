"""The order in which a person would read lines: columns from left to right, each from top to bottom.

The picture is first turned so that its text is upright and level. Then it is cut: a gap from top to bottom separates
columns, if both sides are wide enough to be columns of text and not, for example, prices behind their articles. Lines
that cross the gap, such as headings, end the columns above them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BINS = 512
"""Horizontal positions that are told apart."""
_GUTTER = 0.8
"""Width of the narrowest gap between columns, in heights of a line."""
_COLUMN_LINES = 2
_COLUMN_WIDTH = 6.0
"""Least median width of the lines of a column, in heights of a line."""


def reading_order(polygons: NDArray[Any]) -> list[int]:
    """Return the indices of (N, 4, 2) polygons, in pixels, in reading order.

    Each polygon goes clockwise from the top left of its own text.
    """
    if len(polygons) < 2:
        return list(range(len(polygons)))
    level = _levelled(np.asarray(polygons, dtype=np.float64))
    boxes = np.concatenate([level.min(axis=1), level.max(axis=1)], axis=1)  # (N, 4): left, top, right, bottom
    return _ordered(boxes, np.arange(len(boxes)))


def _levelled(polygons: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn polygons so that most of the text is upright and level."""
    along = polygons[:, 1] - polygons[:, 0]  # (N, 2), as long as the line is
    quarter = np.round(np.arctan2(along[:, 1], along[:, 0]) / (np.pi / 2)).astype(int) % 4
    most = np.bincount(quarter, weights=np.hypot(along[:, 0], along[:, 1]), minlength=4).argmax()
    x, y = along[quarter == most].sum(axis=0)
    length = max(float(np.hypot(x, y)), 1e-9)
    cosine, sine = x / length, y / length
    turned: NDArray[np.float64] = polygons @ np.array([[cosine, -sine], [sine, cosine]])
    return turned


def _ordered(boxes: NDArray[np.float64], among: NDArray[np.intp]) -> list[int]:
    """Return the indices ``among`` in reading order."""
    order: list[int] = []
    bands = _bands(boxes, among)
    left, right = boxes[among, 0].min(), boxes[among, 2].max()
    scale = _BINS / max(right - left, 1e-9)
    spans = np.minimum((boxes[:, [0, 2]] - left) * scale, _BINS - 1)
    least = _GUTTER * float(np.median(boxes[among, 3] - boxes[among, 1])) * scale
    first = 0
    while first < len(bands):
        gap, count = _common_gap(spans, bands[first:], least)
        run = np.concatenate(bands[first : first + max(count, 1)])
        first += max(count, 1)
        centre = spans[run].mean(axis=1)
        sides = [run[centre < gap], run[centre >= gap]]
        if count and all(_is_column(boxes[side]) for side in sides):
            order += _ordered(boxes, sides[0]) + _ordered(boxes, sides[1])
        else:
            order += _rows(boxes, run)
    return order


def _bands(boxes: NDArray[np.float64], among: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Group lines that overlap vertically, from top to bottom. A tenth of a line may overlap by accident."""
    inset = (boxes[among, 3] - boxes[among, 1]) / 10
    top, bottom = boxes[among, 1] + inset, boxes[among, 3] - inset
    by_top = np.argsort(top, kind="stable")
    reached = np.maximum.accumulate(bottom[by_top])
    starts = np.flatnonzero(top[by_top][1:] >= reached[:-1]) + 1
    return [among[part] for part in np.split(by_top, starts)]


def _common_gap(spans: NDArray[np.float64], bands: Sequence[NDArray[np.intp]], least: float) -> tuple[float, int]:
    """Return the middle of the widest gap that the most bands from the first on share, and how many; or 0 and 0.

    Args:
        spans: (N, 2) left and right end of each line, in bins.
        bands: indices of the lines of each.
        least: width of a gap, in bins.
    """
    taken = np.zeros(_BINS, dtype=bool)
    gap, count = 0.0, 0
    for band in bands:
        for start, end in spans[band].astype(int):
            taken[start : end + 1] = True
        # Where free bins begin and end; what reaches an edge is a margin.
        free = np.flatnonzero(np.diff(np.concatenate([[True], taken, [True]]))).reshape(-1, 2)
        inner = free[(free[:, 0] > 0) & (free[:, 1] < _BINS) & (free[:, 1] - free[:, 0] >= least)]
        if not len(inner):
            break
        gap, count = float(inner[(inner[:, 1] - inner[:, 0]).argmax()].mean()), count + 1
    return gap, count


def _is_column(boxes: NDArray[np.float64]) -> bool:
    if len(boxes) < _COLUMN_LINES:
        return False
    height, width = boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]
    return bool(np.median(width) >= _COLUMN_WIDTH * np.median(height))


def _rows(boxes: NDArray[np.float64], among: NDArray[np.intp]) -> list[int]:
    """Return lines row by row. A line is in a row if its centre is within half a line of the row's first."""
    centre = (boxes[among, 1] + boxes[among, 3]) / 2
    height = boxes[among, 3] - boxes[among, 1]
    order: list[int] = []
    row: list[int] = []
    for i in np.argsort(centre, kind="stable"):
        if row and centre[i] - centre[row[0]] > min(height[i], height[row[0]]) / 2:
            order += sorted(row, key=lambda j: float(boxes[among[j], 0]))
            row = []
        row.append(int(i))
    order += sorted(row, key=lambda j: float(boxes[among[j], 0]))
    return [int(among[i]) for i in order]

"""The lines of one image as they are stored, and how people's corrections change them. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.results.reading_views import LineView
from storage.tables import CORNER_SCALE, SCORE_SCALE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from storage.results.reading_views import Polygon

Corners = tuple[int, ...]
"""x and y of four corners in units of ``1 / CORNER_SCALE``, clockwise from the text's own top left."""

NUMBERS = 8
"""Of the corners of a line."""


@dataclass(frozen=True, slots=True)
class StoredLine:
    """A line as it was read. ``confidence`` is in units of ``1 / SCORE_SCALE``."""

    text: str
    confidence: int
    corners: Corners


@dataclass(frozen=True, slots=True)
class LineChange:
    """A person's correction of the lines in a place. ``text`` None: there is no text."""

    id: int
    corners: Corners
    text: str | None


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    confidence: float
    corners: Corners
    correction_id: int | None = None


def corners_of(polygon: Polygon) -> Corners:
    """Return a polygon in stored units. What is beyond the picture is moved to its edge."""
    return tuple(round(min(max(number, 0.0), 1.0) * CORNER_SCALE) for corner in polygon for number in corner)


def polygon_of(corners: Sequence[int]) -> Polygon:
    """Return stored corners as fractions of the picture."""
    return tuple((corners[at] / CORNER_SCALE, corners[at + 1] / CORNER_SCALE) for at in range(0, len(corners) - 1, 2))


def stored(lines: Sequence[str], confidences: Sequence[int], corners: Sequence[int]) -> list[StoredLine]:
    """Return the lines of a row of the table ``reading``."""
    return [
        StoredLine(line, confidence, tuple(corners[NUMBERS * n : NUMBERS * (n + 1)]))
        for n, (line, confidence) in enumerate(zip(lines, confidences, strict=True))
    ]


def corrected(lines: Iterable[StoredLine], changes: Iterable[LineChange]) -> list[LineView]:
    """Return the lines as people see them, in reading order.

    A correction replaces the lines whose middle lies in its place, and stands where the first of them stood. If there
    is none, it is a line of its own, before the first line whose middle is lower. Later corrections, by id, change what
    earlier ones made.
    """
    shown = [_Line(line.text, line.confidence / SCORE_SCALE, line.corners) for line in lines]
    for change in sorted(changes, key=lambda change: change.id):
        held = [n for n, line in enumerate(shown) if lies_in(line.corners, change.corners)]
        at = held[0] if held else _place_of(change.corners, shown)
        for n in reversed(held):
            del shown[n]
        if change.text is not None:
            shown.insert(at, _Line(change.text, 1.0, change.corners, change.id))
    return [
        LineView(number, line.text, line.confidence, polygon_of(line.corners), line.correction_id)
        for number, line in enumerate(shown, start=1)
    ]


def lies_in(corners: Corners, place: Corners) -> bool:
    """Return whether the middle of a line lies in a place. A line always lies in its own place, however thin it is."""
    if corners == place:
        return True
    x, y = _middle(corners)
    points = [(place[at], place[at + 1]) for at in range(0, NUMBERS, 2)]
    is_inside = False
    for (x1, y1), (x2, y2) in zip(points, points[1:] + points[:1], strict=True):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            is_inside = not is_inside
    return is_inside


def _middle(corners: Corners) -> tuple[float, float]:
    return sum(corners[0::2]) / 4, sum(corners[1::2]) / 4


def _place_of(corners: Corners, lines: Sequence[_Line]) -> int:
    y = _middle(corners)[1]
    return next((n for n, line in enumerate(lines) if _middle(line.corners)[1] > y), len(lines))

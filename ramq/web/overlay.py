"""The lines of text over a picture, as attributes of SVG: the security policy of the page allows no inline styles.

The SVG is stretched over the picture, whatever its size is. Each line is written into a rectangle of its own. A matrix
moves the rectangle to the line's polygon, so that the text has its place, size, slant and direction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ramq.services.line_layout import direction, readable, width
from storage.errors import UsageError
from storage.tables import CORNER_SCALE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from storage.results.reading_views import LineView, Polygon

LETTER = 100
"""The height of a line's rectangle before the matrix: the size of its letters, in units of the SVG."""


class Spot(NamedTuple):
    """A line over the picture.

    Attributes:
        number: the line's number.
        text: its text, without characters that could reorder what stands around it.
        points: its polygon, in 1/``CORNER_SCALE`` of the picture's width and height.
        matrix: the transformation from the rectangle (``length`` x ``LETTER``) to the polygon.
        length: the width of the rectangle, into which the text is stretched.
        direction: ``ltr`` or ``rtl``.
    """

    number: int
    text: str
    points: str
    matrix: str
    length: int
    direction: str


def spots(lines: Iterable[LineView]) -> list[Spot]:
    """Return the lines that have letters, each with its place over the picture."""
    found = []
    for line in lines:
        text = " ".join(readable(line.text).split())
        if text:
            length = max(1, round(width(text) * LETTER))
            matrix = _matrix(line.polygon, length)
            found.append(Spot(line.number, text, points(line.polygon), matrix, length, direction(text)))
    return found


def points(polygon: Polygon) -> str:
    """Return a polygon as the attribute ``points`` of SVG."""
    return " ".join(f"{_units(x):g},{_units(y):g}" for x, y in polygon)


def corners(polygon: Polygon) -> str:
    """Return a polygon as the text of a form's field: eight numbers in 0..1."""
    return " ".join(f"{number:.4f}" for corner in polygon for number in corner)


def polygon_of(text: str) -> Polygon:
    """Return the polygon of a form's field. This is the inverse of ``corners``. Raises ``UsageError``."""
    try:
        numbers = [float(number) for number in text.split()]
    except ValueError:
        numbers = []
    if len(numbers) != 8:
        raise UsageError("a polygon has four corners, each with x and y from 0 to 1")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _units(fraction: float) -> float:
    return round(fraction * CORNER_SCALE, 1)


def _matrix(polygon: Polygon, length: int) -> str:
    """Return the matrix that moves the rectangle to the parallelogram that is nearest to the polygon."""
    top_left, top_right, bottom_right, bottom_left = polygon

    def along(axis: int) -> tuple[float, float, float]:
        """Return on one axis the way along the line, the way down, and where it begins."""
        a, b, c, d = (corner[axis] * CORNER_SCALE for corner in (top_left, top_right, bottom_right, bottom_left))
        right, down = (b - a + c - d) / 2, (d - a + c - b) / 2
        return right, down, (a + b + c + d) / 4 - right / 2 - down / 2

    (right_x, down_x, x), (right_y, down_y, y) = along(0), along(1)
    numbers = (right_x / length, right_y / length, down_x / LETTER, down_y / LETTER, x, y)
    return f"matrix({' '.join(f'{number:.6g}' for number in numbers)})"

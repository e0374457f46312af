"""Lines over a picture: each has the place, size and slant of its polygon, and its text can do nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from ramq.web.overlay import corners, polygon_of, spots
from ramq.web.render import written
from storage.errors import UsageError
from tests.readings import HOSTILE, line, rectangle

if TYPE_CHECKING:
    from storage.results.reading_views import Polygon


def moved(matrix: str, x: float, y: float) -> tuple[float, float]:
    """A point after the transformation, as SVG defines it."""
    a, b, c, d, e, f = map(float, re.findall(r"[-+.\de]+(?=[ )])", matrix))
    return a * x + c * y + e, b * x + d * y + f


@pytest.mark.parametrize(
    "polygon",
    [
        rectangle(0.1, 0.2, 0.5, 0.3),
        ((0.1, 0.1), (0.4, 0.3), (0.35, 0.4), (0.05, 0.2)),
        ((0.9, 0.1), (0.9, 0.9), (0.8, 0.9), (0.8, 0.1)),
        ((0.5, 0.5), (0.2, 0.5), (0.2, 0.4), (0.5, 0.4)),
    ],
    ids=["level", "slanted", "downwards", "upside down"],
)
def test_the_rectangle_of_a_line_is_moved_to_its_polygon(polygon: Polygon) -> None:
    [spot] = spots([line(1, "GOOD 早", polygon)])
    assert spot.length == 350
    ends = [(0, 0), (spot.length, 0), (spot.length, 100), (0, 100)]
    for corner, end in zip(polygon, ends, strict=True):
        assert moved(spot.matrix, *end) == pytest.approx((corner[0] * 10_000, corner[1] * 10_000), abs=1)
    assert spot.points.split()[0] == f"{polygon[0][0] * 10_000:g},{polygon[0][1] * 10_000:g}"


def test_lines_without_letters_have_no_spot_and_directions_are_told() -> None:
    found = spots([line(1, " \x00"), line(2, "שלום"), line(3, HOSTILE)])
    assert [(spot.number, spot.direction) for spot in found] == [(2, "rtl"), (3, "ltr")]
    assert "\u202e" not in found[1].text


def test_a_polygon_survives_a_form() -> None:
    polygon: Polygon = ((0.1234, 0), (1, 0.5), (0.3, 0.4), (0, 0.0001))
    assert polygon_of(corners(polygon)) == polygon
    for text in ("", "1 2 3", "a b c d e f g h", "0 0 0 0 0 0 0 0 0"):
        with pytest.raises(UsageError, match="four corners"):
            polygon_of(text)


def test_a_written_line_is_escaped_and_its_found_words_are_marked() -> None:
    assert written("a <b> good", [(0, 1), (2, 5)]) == (
        '<bdi dir="auto"><mark>a</mark> <mark>&lt;b&gt;</mark> good</bdi>'
    )
    assert "<script>" not in written(HOSTILE)
    assert "\u202e" not in written(HOSTILE)
    assert "U+202E" in written(HOSTILE)
    assert "של\u200cם" in written("של\u200cם")

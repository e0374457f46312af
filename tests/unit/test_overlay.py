"""Lines over a picture: each has the place, size and slant of its polygon, and its text can do nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from ramq.web.overlay import corners, polygon_of, spots
from ramq.web.render import EXCERPT, excerpt, written
from storage.errors import UsageError
from storage.search.views import ReadMatch
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


def test_a_long_line_is_cut_around_the_words_that_were_found() -> None:
    text = f"{'early words ' * 20}HARBOUR{' later words' * 20}"
    at = text.index("HARBOUR")
    shown = excerpt(ReadMatch(line(1, text), [(at, at + 7), (at + 200, at + 205)]))
    assert shown.startswith('… <bdi dir="auto">words early words')
    assert "<mark>HARBOUR</mark>" in shown
    assert shown.count("<mark>") == 1
    assert shown.endswith("</bdi> …")
    assert len(shown) < EXCERPT + 60
    assert excerpt(ReadMatch(line(1, "a harbour"), [(2, 9)])) == '<bdi dir="auto">a <mark>harbour</mark></bdi>'


def test_a_long_line_without_spaces_is_cut_too_and_a_mark_ends_with_it() -> None:
    text = "早" * 300
    shown = excerpt(ReadMatch(line(1, text), [(100, 300)]))
    assert shown == f'… <bdi dir="auto">{"早" * 20}<mark>{"早" * 60}</mark></bdi> …'
    assert excerpt(ReadMatch(line(1, text), [(0, 2)])).startswith('<bdi dir="auto"><mark>早早</mark>')

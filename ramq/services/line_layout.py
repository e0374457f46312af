"""Where the text of a line stands in its polygon: its direction, its width, and the places of its words.

A reader finds whole lines. The places of words are estimates: each character gets its usual share of the line.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storage.results.reading_views import LineView, Polygon

_RIGHT_TO_LEFT = frozenset({"R", "AL"})
_WIDE = frozenset({"W", "F"})
_JOINERS = frozenset("\u200c\u200d")
"""Characters without a width that scripts such as Persian or Hindi need. Emoji have them, too."""
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class Word(NamedTuple):
    """A word of a line, and the polygon where it stands, by estimate."""

    text: str
    polygon: Polygon


class Box(NamedTuple):
    """The rectangle around a polygon, in whole pixels. ``right`` and ``bottom`` are the first pixels outside."""

    left: int
    top: int
    right: int
    bottom: int


def readable(text: str) -> str:
    """Return ``text`` without control characters and direction marks. It can stand in HTML, XML and terminals.

    Text in pictures is anybody's. Such characters could reorder or hide what stands around them.
    """
    if text.isprintable():
        return text
    return "".join(
        " " if character.isspace() else character
        for character in text
        if character.isspace() or character in _JOINERS or unicodedata.category(character) not in _HIDDEN
    )


def direction(text: str) -> Literal["ltr", "rtl"]:
    """Return the direction of ``text``: the one of its first letter."""
    for character in text:
        kind = unicodedata.bidirectional(character)
        if kind in _RIGHT_TO_LEFT:
            return "rtl"
        if kind == "L":
            return "ltr"
    return "ltr"


def width(text: str) -> float:
    """Return the usual width of ``text``, in units of the height of its letters. A Latin letter has about a half."""
    return sum(_width(character) for character in text)


def _width(character: str) -> float:
    if unicodedata.combining(character) or character in _JOINERS:
        return 0.0
    return 1.0 if unicodedata.east_asian_width(character) in _WIDE else 0.5


def words(line: LineView) -> Iterator[Word]:
    """Yield the words of a line in the order of reading. Text without spaces, such as Chinese, is one word."""
    text = readable(line.text)
    whole = width(text) or 1.0
    is_mirrored = direction(text) == "rtl"
    at = 0
    for word in text.split():
        begin = text.index(word, at)
        at = begin + len(word)
        start, end = width(text[:begin]) / whole, width(text[:at]) / whole
        if is_mirrored:
            start, end = 1 - end, 1 - start
        yield Word(word, _part(line.polygon, start, end))


def _part(polygon: Polygon, start: float, end: float) -> Polygon:
    """Return the part of a polygon between two fractions of its length."""
    top_left, top_right, bottom_right, bottom_left = polygon

    def between(one: tuple[float, ...], other: tuple[float, ...], share: float) -> tuple[float, float]:
        return one[0] + (other[0] - one[0]) * share, one[1] + (other[1] - one[1]) * share

    return (
        between(top_left, top_right, start),
        between(top_left, top_right, end),
        between(bottom_left, bottom_right, end),
        between(bottom_left, bottom_right, start),
    )


def points(polygon: Polygon, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the corners of a polygon in whole pixels of a picture of ``size`` (width, height), and inside it."""
    return [(_pixel(x, size[0]), _pixel(y, size[1])) for x, y in polygon]


def box(polygon: Polygon, size: tuple[int, int]) -> Box:
    """Return the box around a polygon in a picture of ``size`` (width, height), in pixels. It is never empty."""
    corners = points(polygon, size)
    left, top = min(x for x, _ in corners), min(y for _, y in corners)
    right, bottom = max(x for x, _ in corners), max(y for _, y in corners)
    return Box(left, top, max(right, left + 1), max(bottom, top + 1))


def _pixel(fraction: float, whole: int) -> int:
    return round(min(max(fraction, 0.0), 1.0) * whole)

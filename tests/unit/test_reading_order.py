"""Lines are put into the order in which a person would read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ram_core.reading.order import reading_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

Box = tuple[str, float, float, float]  # name, left, top, width; lines are 20 high


def polygons(boxes: list[Box]) -> NDArray[np.float64]:
    corners = [[(x, y), (x + w, y), (x + w, y + 20), (x, y + 20)] for _, x, y, w in boxes]
    return np.array(corners, dtype=np.float64)


def read(boxes: list[Box], degrees: float = 0) -> str:
    """Names in reading order, of boxes that are shuffled and turned clockwise first."""
    shuffled = [boxes[i] for i in np.random.default_rng(0).permutation(len(boxes))]
    turn = np.deg2rad(degrees)
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return "".join(shuffled[i][0] for i in reading_order(polygons(shuffled) @ matrix))


LINES: list[Box] = [("a", 0, 0, 300), ("b", 0, 30, 280), ("c", 0, 60, 310)]
COLUMNS: list[Box] = [
    *[("a", 0, 0, 300), ("b", 0, 30, 290), ("c", 0, 60, 300)],
    *[("d", 340, 0, 300), ("e", 340, 30, 280), ("f", 340, 60, 150)],
]
HEADED: list[Box] = [("h", 0, 0, 640), *[(name, x, y + 60, w) for name, x, y, w in COLUMNS], ("z", 100, 200, 400)]
STAGGERED: list[Box] = [(name, x, y + (11 if x else 0), w) for name, x, y, w in COLUMNS]
RECEIPT: list[Box] = [
    *[
        ("a", 0, 0, 200),
        ("b", 400, 0, 60),
        ("c", 0, 30, 150),
        ("d", 400, 30, 60),
        ("e", 0, 60, 180),
        ("f", 400, 60, 60),
    ],
]
THREE: list[Box] = [
    *[("a", 0, 0, 200), ("b", 0, 30, 200), ("c", 230, 0, 200), ("d", 230, 30, 200), ("e", 460, 0, 200)],
    ("f", 460, 30, 200),
]
WORDS: list[Box] = [("a", 0, 3, 80), ("b", 90, 0, 80), ("c", 180, 4, 80), ("d", 0, 30, 80), ("e", 90, 33, 80)]


@pytest.mark.parametrize("degrees", [0, 4, -12, 90, 180, 265])
@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        (LINES, "abc"),
        (COLUMNS, "abcdef"),
        (HEADED, "habcdefz"),
        (STAGGERED, "abcdef"),
        (RECEIPT, "abcdef"),
        (THREE, "abcdef"),
        (WORDS, "abcde"),
    ],
    ids=["lines", "columns", "columns between a heading and a footer", "staggered", "receipt", "three", "words"],
)
def test_the_order_is_a_reader_s_however_the_picture_is_turned(boxes: list[Box], expected: str, degrees: float) -> None:
    assert read(boxes, degrees) == expected


def test_most_of_the_text_decides_which_way_is_up() -> None:
    upright, stamp = polygons([("a", 0, 0, 300), ("b", 0, 40, 300)]), polygons([("x", 0, 80, 100)])
    upside_down = np.roll(stamp, 2, axis=1)
    assert reading_order(np.concatenate([upside_down, upright[::-1]])) == [2, 1, 0]


@given(st.lists(st.tuples(*[st.floats(0, 4000) for _ in range(8)]), max_size=40))
def test_any_polygons_come_out_once_each(corners: list[tuple[float, ...]]) -> None:
    found = reading_order(np.array(corners).reshape(-1, 4, 2))
    assert sorted(found) == list(range(len(corners)))

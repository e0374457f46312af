"""Regions over the picture: their places, their masks as paths, and the slots of their tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ramq.web.regions_overlay import LETTERS, OUTLINED, SLOTS, box_in_percent, box_of, card, marks, numbers
from storage.errors import UsageError
from storage.results.region_views import RegionView
from storage.search.views import RegionMatch
from tests.region_archive import painted

if TYPE_CHECKING:
    from storage.results.region_views import Box

BOX = (0.25, 0.5, 0.75, 1.0)


def region(number: int, tag: str, mask: bytes | None = None) -> RegionView:
    return RegionView(number, tag, 0.9, BOX, mask, None)


def test_a_region_has_its_place_and_its_mask_as_strips_of_columns() -> None:
    (slot,), (mark,) = marks([region(1, "dog", painted((0.25, 0.5, 0.5, 1.0), height=4, width=4))])
    assert slot == (0, ["dog"], 1)
    assert mark.rect == (25, 50, 50, 50)
    assert mark.path == "M2500 5000H5000V10000H2500z"
    whole = marks([region(1, "dog", painted((0, 0, 1, 1), height=3, width=2))])[1][0]
    assert whole.path == "M0 0H5000V10000H0zM5000 0H10000V10000H5000z"


def test_a_large_mask_makes_a_path_of_bounded_length() -> None:
    (_, (mark,)) = marks([region(1, "dog", painted((0, 0, 1, 1), height=900, width=1200))])
    assert mark.path is not None
    assert mark.path.count("M") == 160


def test_tags_with_the_most_regions_have_slots_of_their_own_and_the_rest_share_one() -> None:
    found = [region(n, f"tag {n}") for n in range(SLOTS + 5)] + [region(99, "Tag 7")]
    slots, placed = marks(found)
    assert [slot.number for slot in slots] == list(range(SLOTS))
    assert slots[0] == (0, ["tag 7"], 2)
    assert len(slots[-1].tags) == slots[-1].regions == 6
    assert sum(slot.regions for slot in slots) == len(placed) == len(found)
    assert marks([]) == ([], [])
    assert [slot.more for slot in (slots[0], slots[-1])] == [0, 3]


def test_a_long_name_is_cut_and_one_at_the_right_edge_ends_there() -> None:
    long = RegionView(2, "a name of very many words that goes on", 0.9, (0.7, 0, 0.9, 1), None, None)
    (_, (short_mark, long_mark)) = marks([region(1, "dog"), long])
    assert (short_mark.name, short_mark.is_right) == ("dog", False)
    assert long_mark.name == "a name of very many words t…"
    assert len(long_mark.name) == LETTERS
    assert long_mark.is_right


def test_a_box_comes_back_from_its_form() -> None:
    assert box_of(numbers(BOX)) == BOX
    for wrong in ("", "1 2 3", "a b c d", "0 0 1 1 1"):
        with pytest.raises(UsageError, match="four numbers"):
            box_of(wrong)


def test_a_box_is_read_from_percentages() -> None:
    assert box_in_percent("0", "12.5", "100", "90") == (0, 0.125, 1, 0.9)
    for wrong, why in (
        (("", "0", "1", "1"), "four numbers"),
        (("0", "0", "100.1", "1"), "from 0 to 100"),
        (("0", "0", "nan", "1"), "from 0 to 100"),
        (("1", "0", "1", "1"), "left must be less"),
        (("0", "2", "1", "1"), "top less than bottom"),
    ):
        with pytest.raises(UsageError, match=why):
            box_in_percent(*wrong)


def matches(*found: tuple[str, Box]) -> list[RegionMatch]:
    return [RegionMatch(number, tag, 0.9, box) for number, (tag, box) in enumerate(found, 5)]


def test_a_card_outlines_regions_in_pixels_with_a_color_for_each_tag() -> None:
    shown = card(matches(("cat", (0, 0, 0.5, 0.5)), ("Dog", BOX), ("dog", (0.5, 0.5, 1, 1))), 600, 400)
    assert shown.size == (600, 400)
    assert shown.counts == [("Dog", 0, 2), ("cat", 1, 1)]
    assert shown.rects == [(1, 0, 0, 300, 200), (0, 150, 200, 300, 200), (0, 300, 200, 300, 200)]
    assert shown.inset is None
    many = card(matches(*((f"tag {n}", BOX) for n in range(OUTLINED + 9))), 10, 10)
    assert (len(many.rects), len(many.counts)) == (OUTLINED, OUTLINED + 9)
    assert {slot for slot, *_ in many.rects} == set(range(SLOTS))


@pytest.mark.parametrize(
    ("size", "boxes", "inset"),
    [
        ((600, 400), [(0.4, 0.4, 0.45, 0.45)], 5),  # small
        ((600, 400), [(0.4, 0.4, 0.45, 0.45), (0.4, 0.4, 0.6, 0.6)], None),  # one of them is not
        ((1000, 100), [(0, 0, 0.4, 1)], 5),  # outside of the square
        ((100, 1000), [(0, 0, 1, 0.45)], 5),
        ((100, 1000), [(0, 0.4, 1, 0.6)], None),
        ((1000, 100), [(0, 0.4, 0.5, 0.45)], None),  # half of its side is seen
        ((0, 0), [(0, 0, 1, 1)], None),
    ],
)
def test_a_card_shows_a_region_on_its_own_if_none_is_seen(
    size: tuple[int, int], boxes: list[Box], inset: int | None
) -> None:
    assert card(matches(*(("dog", box) for box in boxes)), *size).inset == inset

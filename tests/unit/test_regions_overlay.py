"""Regions over the picture: their places, their masks as paths, and the slots of their tags."""

from __future__ import annotations

import pytest

from ramq.web.regions_overlay import SLOTS, box_of, marks, numbers
from storage.errors import UsageError
from storage.results.region_views import RegionView
from tests.region_archive import painted

BOX = (0.25, 0.5, 0.75, 1.0)


def region(number: int, tag: str, mask: bytes | None = None) -> RegionView:
    return RegionView(number, tag, 0.9, BOX, mask, None)


def test_a_region_has_its_place_and_its_mask_as_strips_of_columns() -> None:
    (slot,), (mark,) = marks([region(1, "dog", painted((0.25, 0.5, 0.5, 1.0), height=4, width=4))])
    assert slot == (0, ["dog"], 1)
    assert mark.rect == (2500, 5000, 5000, 5000)
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


def test_a_box_comes_back_from_its_form() -> None:
    assert box_of(numbers(BOX)) == BOX
    for wrong in ("", "1 2 3", "a b c d", "0 0 1 1 1"):
        with pytest.raises(UsageError, match="four numbers"):
            box_of(wrong)

"""The regions of tags over the picture, as attributes of SVG: the security policy of the page allows no inline styles.

The SVG is stretched over the picture, whatever its size is. Each tag has a slot: a color, and a box to tick that shows
and hides its regions. There are ``SLOTS`` of them in the style sheet, since without scripts and inline styles nothing
can be made up for a page. Tags beyond that share the last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from storage.errors import UsageError
from storage.results.masks import Mask
from storage.tables import CORNER_SCALE
from storage.texts import fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.results.region_views import Box, RegionView

SLOTS = 12
_SIDE = 160
"""Columns and rows of a mask on a page, at most. A path has a part for each run of a column."""


class Slot(NamedTuple):
    """The tags that are shown and hidden together, and how many regions they have."""

    number: int
    tags: list[str]
    regions: int


class Mark(NamedTuple):
    """A region over the picture.

    Attributes:
        region: the region.
        slot: the slot of its tag.
        rect: left, top, width, height in 1/``CORNER_SCALE`` of the picture's width and height.
        path: its mask as the attribute ``d`` of a path in the same units; None without one.
    """

    region: RegionView
    slot: int
    rect: tuple[int, int, int, int]
    path: str | None


def marks(regions: Sequence[RegionView]) -> tuple[list[Slot], list[Mark]]:
    """Return the slots, those with the most regions first, and every region with its place."""
    by_name: dict[str, list[RegionView]] = {}
    for region in regions:
        by_name.setdefault(fold(region.tag), []).append(region)
    names = sorted(by_name, key=lambda name: -len(by_name[name]))
    slot_of = {name: min(number, SLOTS - 1) for number, name in enumerate(names)}
    slots = [Slot(number, [], 0) for number in sorted(set(slot_of.values()))]
    for name in names:
        slot = slots[slot_of[name]]
        slots[slot.number] = Slot(slot.number, [*slot.tags, by_name[name][0].tag], slot.regions + len(by_name[name]))
    return slots, [Mark(one, slot_of[fold(one.tag)], _rect(one.box), _path(one.mask)) for one in regions]


def numbers(box: Box) -> str:
    """Return a box as the text of a form's field: four numbers in 0..1."""
    return " ".join(f"{number:.4f}" for number in box)


def box_of(text: str) -> Box:
    """Return the box of a form's field. This is the inverse of ``numbers``. Raises ``UsageError``."""
    try:
        left, top, right, bottom = map(float, text.split())
    except ValueError as error:
        raise UsageError("a box has four numbers from 0 to 1: left, top, right and bottom") from error
    return left, top, right, bottom


def _rect(box: Box) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(number * CORNER_SCALE) for number in box)
    return left, top, right - left, bottom - top


def _path(stored: bytes | None) -> str | None:
    if stored is None:
        return None
    mask = Mask.from_bytes(stored)
    mask = mask.resized(min(mask.height, _SIDE), min(mask.width, _SIDE))
    height, width = mask.height, mask.width
    parts = []
    for start, end in mask.stretches().tolist():
        for column in range(start // height, (end - 1) // height + 1):
            top = max(start - column * height, 0)
            bottom = min(end - column * height, height)
            x, y = round(column * CORNER_SCALE / width), round(top * CORNER_SCALE / height)
            right, low = round((column + 1) * CORNER_SCALE / width), round(bottom * CORNER_SCALE / height)
            parts.append(f"M{x} {y}H{right}V{low}H{x}z")
    return "".join(parts)

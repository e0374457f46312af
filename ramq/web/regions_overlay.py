"""The regions of tags over the picture, as attributes of SVG: the security policy of the page allows no inline styles.

Places are in percent of the picture, whatever its size is. Each tag has a slot: a color, and a box to tick that shows
and hides its regions. There are ``SLOTS`` of them in the style sheet, since without scripts and inline styles nothing
can be made up for a page. Tags beyond that share the last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from storage.errors import UsageError
from storage.results.masks import Mask
from storage.search.views import counted
from storage.tables import CORNER_SCALE
from storage.texts import fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.results.region_views import Box, RegionView

SLOTS = 12
NAMED = 3
"""Tags of a slot that its box to tick names. The others are only counted."""
FEW = 12
"""As many regions have their names in the picture. More would hide it, so a name appears when its region is chosen."""
LETTERS = 28
"""Of a name in the picture."""
OUTLINED = 50
"""Regions that the card of a hit outlines."""
SMALL = 0.15
"""Of the side of a card's picture. If all its regions are smaller, or outside of it, the card shows one of them."""
_SIDE = 160
"""Columns and rows of a mask on a page, at most. A path has a part for each run of a column."""


class Slot(NamedTuple):
    """The tags that are shown and hidden together, and how many regions they have."""

    number: int
    tags: list[str]
    regions: int

    @property
    def more(self) -> int:
        """How many of the tags are not among the first ``NAMED``."""
        return max(0, len(self.tags) - NAMED)


class Mark(NamedTuple):
    """A region over the picture.

    Attributes:
        region: the region.
        slot: the slot of its tag.
        rect: left, top, width, height in percent of the picture's width and height.
        path: its mask as the attribute ``d`` of a path, in 1/``CORNER_SCALE`` of the picture; None without one.
    """

    region: RegionView
    slot: int
    rect: tuple[float, float, float, float]
    path: str | None

    @property
    def name(self) -> str:
        """Its tag, cut to fit into the picture."""
        tag = self.region.tag
        return tag if len(tag) <= LETTERS else f"{tag[: LETTERS - 1].rstrip()}…"

    @property
    def is_right(self) -> bool:
        """Whether its name ends at the right edge of its box: it begins so far to the right that it would be cut."""
        return self.rect[0] > 60


class Region(Protocol):
    """A region that a search found in a hit."""

    @property
    def number(self) -> int:
        """Its place in the list of the image's regions, from 1."""

    @property
    def tag(self) -> str:
        """What it is."""

    @property
    def box(self) -> Box:
        """Where it is."""


class Card(NamedTuple):
    """The regions over the picture of a hit, which is cut to a square around its middle.

    Attributes:
        size: width and height of the whole picture, in pixels.
        counts: the tags, each with its slot and the number of its regions.
        rects: the slot, left, top, width and height of each region, in pixels.
        inset: the number of the region to show on its own; None: at least one can be seen in the picture.
    """

    size: tuple[int, int]
    counts: list[tuple[str, int, int]]
    rects: list[tuple[int, int, int, int, int]]
    inset: int | None


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


def card(regions: Sequence[Region], width: int, height: int) -> Card:
    """Return what the card of a hit shows of its regions.

    Args:
        regions: what to outline, at least one.
        width: of the whole picture, in pixels.
        height: likewise.
    """
    counts = [
        (tag, min(slot, SLOTS - 1), count) for slot, (tag, count) in enumerate(counted(one.tag for one in regions))
    ]
    slot_of = {fold(tag): slot for tag, slot, _ in counts}
    size = width, height = max(width, 1), max(height, 1)
    rects = []
    for one in regions[:OUTLINED]:
        left, top, right, bottom = (round(number * side) for number, side in zip(one.box, size * 2, strict=True))
        rects.append((slot_of[fold(one.tag)], left, top, max(right - left, 1), max(bottom - top, 1)))
    is_seen = any(_seen(one.box, width, height) >= SMALL for one in regions)
    return Card(size, counts, rects, None if is_seen else regions[0].number)


def _seen(box: Box, width: int, height: int) -> float:
    """Return the longer side of the part of a box that lies in the square around the middle, as a share of its side."""
    side = min(width, height)

    def part(first: float, last: float, length: int) -> float:
        margin = (length - side) / 2
        return max(0.0, min(last * length - margin, side) - max(first * length - margin, 0.0)) / side

    across, down = part(box[0], box[2], width), part(box[1], box[3], height)
    return max(across, down) if across and down else 0.0


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


def box_in_percent(left: str, top: str, right: str, bottom: str) -> Box:
    """Return the box of a form with a field for each side, in percent of the picture. Raises ``UsageError``."""
    try:
        box = (float(left) / 100, float(top) / 100, float(right) / 100, float(bottom) / 100)
    except ValueError as error:
        raise UsageError(
            "a region needs four numbers from 0 to 100, in percent: its left, top, right, bottom"
        ) from error
    if not all(0 <= number <= 1 for number in box):
        raise UsageError("left, top, right and bottom are in percent of the picture: each is a number from 0 to 100")
    if box[0] >= box[2] or box[1] >= box[3]:
        raise UsageError("a region begins at its left and top: left must be less than right, and top less than bottom")
    return box


def _rect(box: Box) -> tuple[float, float, float, float]:
    left, top, right, bottom = (100 * number for number in box)
    return round(left, 2), round(top, 2), round(right - left, 2), round(bottom - top, 2)


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

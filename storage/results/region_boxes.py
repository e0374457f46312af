"""The regions of one image as they are stored, corrected by people, and counted. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from storage.results.masks import Mask, union
from storage.results.region_views import RegionView
from storage.tables import AREA_SCALE, CORNER_SCALE, SCORE_SCALE
from storage.texts import fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from storage.results.region_views import Box

Corners = tuple[int, int, int, int]
"""Left, top, right, bottom in units of ``1 / CORNER_SCALE``; left < right and top < bottom."""

NUMBERS = 4
"""Of a box."""

SAME_PLACE = 0.5
"""Boxes whose common part is at least this share of what both cover are the same place. Detectors keep no two boxes of
a tag that have so much in common."""


@dataclass(frozen=True, slots=True)
class StoredRegion:
    """A region as it was found. ``score`` and ``quality`` are in units of ``1 / SCORE_SCALE``."""

    tag: str
    score: int
    box: Corners
    mask: bytes | None = None
    quality: int | None = None


@dataclass(frozen=True, slots=True)
class RegionChange:
    """A person's correction: a tag is at a place (``is_there``), or it is not."""

    id: int
    tag: str
    box: Corners
    is_there: bool


@dataclass(frozen=True, slots=True)
class Count:
    """How many regions of a tag there are, and what they cover, in units of ``1 / AREA_SCALE`` of the picture."""

    regions: int
    area: int


def corners_of(box: Box) -> Corners:
    """Return a box in stored units. What is beyond the picture is moved to its edge. No box is thinner than a unit."""
    left, top, right, bottom = (round(min(max(number, 0.0), 1.0) * CORNER_SCALE) for number in box)
    left, top = min(left, CORNER_SCALE - 1), min(top, CORNER_SCALE - 1)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def box_of(corners: Corners) -> Box:
    """Return stored corners as fractions of the picture."""
    left, top, right, bottom = (number / CORNER_SCALE for number in corners)
    return left, top, right, bottom


def stored(
    tags: Sequence[str],
    scores: Sequence[int],
    boxes: Sequence[int],
    masks: str | None,
    qualities: Sequence[int | None] | None,
) -> list[StoredRegion]:
    """Return the regions of a row of the table ``localization``."""
    lines: Sequence[str] = [""] * len(tags) if masks is None else masks.split("\n")
    return [
        StoredRegion(
            tag,
            score,
            (boxes[4 * n], boxes[4 * n + 1], boxes[4 * n + 2], boxes[4 * n + 3]),
            line.encode() if line else None,
            None if qualities is None else qualities[n],
        )
        for n, (tag, score, line) in enumerate(zip(tags, scores, lines, strict=True))
    ]


def corrected(regions: Iterable[StoredRegion], changes: Iterable[RegionChange]) -> list[RegionView]:
    """Return the regions as people see them.

    A correction replaces the regions of its tag that are at its place. What a person drew stands where the first of
    them stood, otherwise last. Later corrections, by id, change what earlier ones made.
    """
    shown: list[tuple[StoredRegion, int | None]] = [(region, None) for region in regions]
    for change in sorted(changes, key=lambda change: change.id):
        held = [n for n, (region, _) in enumerate(shown) if is_same(region.tag, region.box, change.tag, change.box)]
        at = held[0] if held else len(shown)
        for n in reversed(held):
            del shown[n]
        if change.is_there:
            shown.insert(at, (StoredRegion(change.tag, SCORE_SCALE, change.box), change.id))
    return [
        RegionView(
            number,
            region.tag,
            region.score / SCORE_SCALE,
            box_of(region.box),
            region.mask,
            None if region.quality is None else region.quality / SCORE_SCALE,
            correction_id,
        )
        for number, (region, correction_id) in enumerate(shown, start=1)
    ]


def is_same(tag: str, box: Corners, other_tag: str, other: Corners) -> bool:
    """Return whether two regions have the same tag and place (``SAME_PLACE``)."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    if width <= 0 or height <= 0 or fold(tag) != fold(other_tag):
        return False
    common = width * height
    return common >= SAME_PLACE * (_area(box) + _area(other) - common)


def counts(regions: Iterable[RegionView]) -> Mapping[str, Count]:
    """Return what search knows of these regions, by the folded name of the tag, which is not empty.

    Raises:
        ValueError: a mask is damaged.
    """
    by_name: dict[str, list[RegionView]] = defaultdict(list)
    for region in regions:
        by_name[fold(region.tag)].append(region)
    return {name: Count(len(own), _area_units(cover(own))) for name, own in by_name.items() if name}


def cover(regions: Sequence[RegionView]) -> float:
    """Return the share 0..1 of the picture that lies in any of these regions: in its mask, or in its box without one.

    Raises:
        ValueError: a mask is damaged.
    """
    masks = [None if region.mask is None else Mask.from_bytes(region.mask) for region in regions]
    size = next(((mask.height, mask.width) for mask in masks if mask is not None), None)
    if size is None:
        return _cover_of_boxes([corners_of(region.box) for region in regions]) / CORNER_SCALE**2
    # A mask of another size than the first one was made of another picture of this image: its box stands for it.
    stretches = [
        mask.stretches() if mask is not None and (mask.height, mask.width) == size else _stretches(region.box, *size)
        for mask, region in zip(masks, regions, strict=True)
    ]
    return union(stretches) / (size[0] * size[1])


def _area_units(share: float) -> int:
    return min(max(round(share * AREA_SCALE), 1), AREA_SCALE)


def _area(box: Corners) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _cover_of_boxes(boxes: Sequence[Corners]) -> int:
    """Return the area of the union of boxes, in units of ``1 / CORNER_SCALE ** 2`` of the picture."""
    if len(boxes) == 1:
        return _area(boxes[0])
    sides = np.array(boxes, dtype=np.int64)
    xs, ys = np.unique(sides[:, 0::2]), np.unique(sides[:, 1::2])
    is_covered = np.zeros((len(xs) - 1, len(ys) - 1), dtype=np.bool_)
    lefts, rights = np.searchsorted(xs, sides[:, 0]), np.searchsorted(xs, sides[:, 2])
    tops, bottoms = np.searchsorted(ys, sides[:, 1]), np.searchsorted(ys, sides[:, 3])
    for left, top, right, bottom in zip(lefts, tops, rights, bottoms, strict=True):
        is_covered[left:right, top:bottom] = True
    return int(np.diff(xs) @ is_covered @ np.diff(ys))


def _stretches(box: Box, height: int, width: int) -> NDArray[np.int64]:
    """Return the pixels of a box as ``Mask.stretches`` does, at least one."""
    left, right = _pixels(box[0], box[2], width)
    top, bottom = _pixels(box[1], box[3], height)
    columns = np.arange(left, right, dtype=np.int64) * height
    return np.stack([columns + top, columns + bottom], axis=1)


def _pixels(first: float, last: float, count: int) -> tuple[int, int]:
    begin = min(round(first * count), count - 1)
    return begin, max(round(last * count), begin + 1)

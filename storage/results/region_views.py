"""The regions of an image as people see them, and as a worker found them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as fractions 0..1 of the upright picture; left < right and top < bottom."""


@dataclass(frozen=True, slots=True)
class FoundRegion:
    """A region as the locator found it.

    Attributes:
        tag: what it is.
        score: of the detector, in 0..1.
        box: where it is.
        mask: its pixels, as ``storage.results.masks.Mask.to_bytes`` writes them; None without a segmenter.
        mask_quality: of the segmenter, in 0..1; None without a mask.
    """

    tag: str
    score: float
    box: Box
    mask: bytes | None = None
    mask_quality: float | None = None


@dataclass(frozen=True, slots=True)
class RegionsRow:
    """What a worker found in one image, highest score first. ``is_cut``: there were more regions than the limit."""

    image_id: int
    version: str
    regions: Sequence[FoundRegion]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class RegionView:
    """A region of an image, people's corrections included.

    Attributes:
        number: its place in the list, from 1. Other corrections, and locating again, may change it.
        tag: what it is.
        score: of the detector, in 0..1; 1 for a region that a person drew.
        box: where it is.
        mask: as in ``FoundRegion``.
        mask_quality: as in ``FoundRegion``.
        correction_id: the correction that drew it; None: as it was found.
    """

    number: int
    tag: str
    score: float
    box: Box
    mask: bytes | None
    mask_quality: float | None
    correction_id: int | None = None


@dataclass(frozen=True, slots=True)
class RegionsView:
    """The regions of one image. ``is_cut``: there are more than the limit."""

    image_id: int
    generation_id: int
    model: str
    regions: list[RegionView]
    is_cut: bool
    located_at: datetime


@dataclass(frozen=True, slots=True)
class RegionCorrectionView:
    """A person's correction: the tag is at this place (``is_there``), or it is not.

    ``said_by`` is the name of a token, or ``local``.
    """

    id: int
    tag: str
    box: Box
    is_there: bool
    said_by: str
    said_at: datetime

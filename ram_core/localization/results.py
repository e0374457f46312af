"""What a locator returns, and what identifies it and its parts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ram_core.localization.rle import RLE

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as fractions 0..1 of the upright picture; left < right and top < bottom."""


@dataclass(frozen=True, slots=True)
class Region:
    """A place in a picture where a tag is.

    Attributes:
        tag: as it was asked for.
        score: how sure the detector is, 0..1. Scores of different detectors do not compare.
        box: left, top, right, bottom, as fractions 0..1 of the upright picture.
        mask: its pixels, run-length encoded, at the size of the picture that was given; None without a segmenter.
        mask_quality: the overlap (IoU) with the true mask that the segmenter predicts, 0..1; None without a mask.
    """

    tag: str
    score: float
    box: Box
    mask: RLE | None = None
    mask_quality: float | None = None


@dataclass(frozen=True, slots=True)
class Localization:
    """The regions of one picture.

    Attributes:
        regions: highest score first.
        is_cut: there were more regions than the limits allow; these are the best of them.
    """

    regions: tuple[Region, ...]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class PartSpec:
    """What identifies a loaded detector or segmenter. Two with the same ``fingerprint`` give the same results.

    Attributes:
        model: its name.
        weights_sha256: hash (hex) of its weights.
        method: a short description of preprocessing, and of how the model is used.
    """

    model: str
    weights_sha256: str
    method: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over all fields."""
        return _hash(self)


@dataclass(frozen=True, slots=True)
class LocatorSpec:
    """What made a localization. Two specs with the same ``fingerprint`` give the same one: a *generation*.

    Attributes:
        model: names of the detector and, after ``+``, of the segmenter.
        weights_sha256: hash (hex) over the weights of both.
        preprocessing: a short description of resizing, of how the models are used, and of thresholds and limits.
    """

    model: str
    weights_sha256: str
    preprocessing: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over all fields."""
        return _hash(self)


def _hash(spec: PartSpec | LocatorSpec) -> str:
    return hashlib.sha256(json.dumps(asdict(spec), sort_keys=True).encode()).hexdigest()

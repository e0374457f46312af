"""Decode: turn untrusted bytes into a small array of pixels, or into an error that says why not.

``ram_core.pictures`` opens them. JPEGs are decoded at the smallest scale that is at least twice the size that the model
needs. Errors are those of ``workers.pipeline.retry``.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ram_core import pictures
from ram_core.errors import UnreadableImageError
from ram_core.metadata import NoPixels, is_sidecar
from ram_core.pictures import DRAFT_FACTOR, Decoded
from ram_core.transforms import to_rgb
from workers.pipeline.retry import (
    REFUSALS,
    CorruptImageError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ram_core.recognition import Preprocessing

_ROUNDING = 1e-6
"""Of a pixel: where the edge of a box falls on the edge of a pixel, floating point may say that it is beyond."""

_REASONS = {kind.code: kind for kind in REFUSALS}


@dataclass(frozen=True, slots=True)
class ThumbnailTransform:
    """Prepares an image for display instead of a model: keeps the aspect ratio and reduces the size.

    Attributes:
        side: maximum length of the longer side, in pixels.
    """

    side: int

    @property
    def size(self) -> int:
        """Target size for the JPEG draft. It is chosen so that the draft keeps at least ``side`` pixels."""
        return self.side // DRAFT_FACTOR

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 RGB."""
        rgb = to_rgb(image)
        small = rgb.copy() if rgb is image else rgb  # others may prepare the same image
        small.thumbnail((self.side, self.side), Image.Resampling.LANCZOS)
        return np.asarray(small)


@dataclass(frozen=True, slots=True)
class CropTransform:
    """Prepares a part of an image for display, at its own aspect ratio. It is never enlarged.

    Attributes:
        box: left, top, right, bottom of the part, as fractions 0..1 of the upright image.
        side: maximum length of the part's longer side, in pixels.
    """

    box: tuple[float, float, float, float]
    side: int

    @property
    def size(self) -> int:
        """Target size for the JPEG draft. It is chosen so that the part keeps at least ``side`` pixels."""
        left, top, right, bottom = self.box
        return math.ceil(self.side / max(right - left, bottom - top) / DRAFT_FACTOR)

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 RGB: every pixel that the box touches."""
        left, top, right, bottom = self.box
        corners = (
            math.floor(left * image.width + _ROUNDING),
            math.floor(top * image.height + _ROUNDING),
            math.ceil(right * image.width - _ROUNDING),
            math.ceil(bottom * image.height - _ROUNDING),
        )
        return ThumbnailTransform(self.side)(image.crop(corners))


@dataclass(frozen=True, slots=True)
class BandTransform:
    """Prepares rows of an image in full size, one of several bands from top to bottom.

    Attributes:
        number: which band, from 0.
        count: how many bands an image has; the last ones may have no rows of their own, and then have the last row.
    """

    number: int
    count: int

    @property
    def size(self) -> int:
        """Target size for the JPEG draft: larger than any image, so that there is none."""
        return 1 << 30

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return (rows, W, 3) uint8 RGB."""
        rows = band_rows(image.height, self.count)
        top = min(self.number * rows, image.height - 1)
        return np.asarray(to_rgb(image.crop((0, top, image.width, min(top + rows, image.height)))))


def band_rows(height: int, count: int) -> int:
    """Return the number of rows of each but the last of ``count`` bands."""
    return math.ceil(height / count)


def decode(body: bytes | memoryview, preprocessing: Preprocessing, max_pixels: int) -> Decoded:
    """Decode and prepare one image. Raises as :func:`decode_for_all`."""
    return decode_for_all(body, [preprocessing], max_pixels)[0]


def decode_for_all(
    body: bytes | memoryview,
    preparations: Sequence[Preprocessing],
    max_pixels: int,
    *,
    reads_truncated: bool = False,
    page: int = 1,
) -> list[Decoded]:
    """Decode one image and prepare it in several ways; see ``ram_core.pictures.decode_for_all``.

    Raises:
        NotAnImageError, UnsupportedImageError, TruncatedImageError, CorruptImageError, TooManyPixelsError, NoPageError:
            why not.
        MemoryError: not enough memory.
    """
    if all(isinstance(each, NoPixels) for each in preparations):
        if any(isinstance(each, NoPixels) and each.of_sidecar for each in preparations) and not is_sidecar(body):
            raise CorruptImageError("it is not XMP, or is damaged or cut short")
        return [Decoded(np.zeros((1, 1, 3), dtype=np.uint8), 0, 0) for _ in preparations]
    try:
        return pictures.decode_for_all(body, preparations, max_pixels, reads_truncated=reads_truncated, page=page)
    except UnreadableImageError as error:
        refusal = _REASONS[error.reason](str(error))
        refusal.pages = error.pages
        raise refusal from error


def guard_pillow(max_pixels: int) -> None:
    """Set Pillow's own limits for this process, which only decodes."""
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", module=r"PIL\..*", category=UserWarning)

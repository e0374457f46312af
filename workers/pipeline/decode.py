"""Decode: turn untrusted bytes into a small array of pixels, or into an error that says why not.

The content decides the file type, not the name. Only formats on a list are opened. The size is checked in the header
before any pixel is decoded. JPEGs are decoded at the smallest scale that is at least twice the size that the model
needs. EXIF orientation is applied. (Pillow handbook, "Security".)
"""

from __future__ import annotations

import io
import math
import re
import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ram_core.errors import ImageError
from ram_core.transforms import to_rgb
from workers.pipeline.retry import (
    CorruptImageError,
    NotAnImageError,
    TooManyPixelsError,
    TruncatedImageError,
    UnsupportedImageError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ram_core.recognition import Preprocessing

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
"""Formats that are opened. Pillow's other formats run programs, contain scripts or had dangerous decoder bugs."""

DRAFT_FACTOR = 2
"""JPEGs are decoded at no less than this many times the model's size. The loss is negligible, and large images take
half the time (``docs/decisions/0008-draft-decode.md``)."""

_ROUNDING = 1e-6
"""Of a pixel: where the edge of a box falls on the edge of a pixel, floating point may say that it is beyond."""

_ORIENTATION = 0x0112
_SIDEWAYS = {5, 6, 7, 8}

# File types that are often stored next to images. They are recognised only to give a clear reason.
_KNOWN = (
    (re.compile(rb"....ftyp(heic|heix|hevc|heim|heis|mif1|msf1)", re.DOTALL), "HEIC"),
    (re.compile(rb"....ftyp(?!avi[fs])", re.DOTALL), "a film"),
    (re.compile(rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51"), "JPEG 2000"),
    (re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL "), "JPEG XL"),
    (re.compile(rb"8BPS"), "Photoshop"),
    (re.compile(rb"%PDF"), "PDF"),
    (re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"), "PostScript"),
    (re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg", re.DOTALL), "SVG"),
    (re.compile(rb"\x00\x00\x01\x00"), "an icon"),
    (re.compile(rb"\x1aE\xdf\xa3"), "a film"),
    (re.compile(rb"FUJIFILMCCD-RAW|II\x1a\x00\x00\x00HEAPCCDR"), "camera raw"),
)

# Signatures of the formats that are opened. A file that has one but cannot be opened is damaged.
_DECODED = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"GIF8"), "GIF"),
    (re.compile(rb"BM"), "BMP"),
    (re.compile(rb"II[*+]\x00|MM\x00[*+]"), "TIFF"),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), "AVIF"),
    (re.compile(rb"P[1-6]\s"), "PPM"),
)


class Decoded(NamedTuple):
    """Pixels for the model, and the displayed size of the image (after EXIF orientation)."""

    pixels: NDArray[np.uint8]  # (S, S, 3), or the shape that the preprocessing returns
    width: int
    height: int


class Opened(NamedTuple):
    """A loaded image, turned upright, and its true width and height."""

    image: Image.Image
    width: int
    height: int


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
        small = to_rgb(image)
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


def decode(body: bytes | memoryview, preprocessing: Preprocessing, max_pixels: int) -> Decoded:
    """Decode and prepare one image. Raises as :func:`decode_for_all`."""
    return decode_for_all(body, [preprocessing], max_pixels)[0]


def decode_for_all(body: bytes | memoryview, preparations: Sequence[Preprocessing], max_pixels: int) -> list[Decoded]:
    """Decode one image and prepare it in several ways, each with the same result as alone.

    It is decoded once, except that a JPEG is decoded at each of the scales that they allow: pixels from a larger scale
    would be other pixels, and tags near their threshold would depend on which stages a job has.

    Raises:
        NotAnImageError, UnsupportedImageError, TruncatedImageError, CorruptImageError, TooManyPixelsError: why not.
        MemoryError: not enough memory.
    """
    loaded: dict[tuple[int, int], Opened] = {}
    try:
        return [
            Decoded(preprocessing(opened.image), opened.width, opened.height)
            for preprocessing in preparations
            if (opened := open_picture(body, preprocessing.size * DRAFT_FACTOR, max_pixels, loaded))
        ]
    except ImageError as error:
        raise CorruptImageError(str(error)) from error


def open_picture(
    body: bytes | memoryview, at_least: int, max_pixels: int, loaded: dict[tuple[int, int], Opened] | None = None
) -> Opened:
    """Open and load the first frame of an image, turned upright.

    Args:
        body: the file.
        at_least: minimum length of the shorter side in pixels; a JPEG may be decoded at a reduced scale down to this.
        max_pixels: images with more pixels are rejected.
        loaded: what was loaded of the same image before, by its size as decoded; nothing is loaded twice.
    """
    load_plugins()
    try:
        # `guard_pillow` sets Pillow's own limit. The header is checked here in any case.
        image = Image.open(io.BytesIO(body), formats=FORMATS)
        width, height = image.size
        _refuse_large(width, height, max_pixels)
        if image.format in {"JPEG", "MPO"} and min(width, height) >= at_least:
            # The draft keeps the aspect ratio, so the shorter side decides.
            scale = at_least / min(width, height)
            image.draft(None, (round(width * scale), round(height * scale)))
        decoded_size = image.size
        if loaded is not None and decoded_size in loaded:
            return loaded[decoded_size]
        image.load()
    except TooManyPixelsError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixelsError(f"{error}") from error
    except UnidentifiedImageError:
        raise _unidentified(bytes(body[:1024])) from None
    except MemoryError:
        raise
    # On damaged files decoders raise almost anything (OSError, ValueError, SyntaxError, IndexError, struct.error, ...).
    except Exception as error:
        if "truncated" in str(error).lower():
            raise TruncatedImageError(f"the image is cut short: {error}") from error
        raise CorruptImageError(f"{type(error).__name__}: {error}") from error
    opened = Opened(*_upright(image, width, height))
    if loaded is not None:
        loaded[decoded_size] = opened
    return opened


def _refuse_large(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooManyPixelsError(f"{width:,} x {height:,} pixels exceed the limit of {max_pixels:,} pixels in total")


def _upright(image: Image.Image, width: int, height: int) -> tuple[Image.Image, int, int]:
    """Apply the EXIF orientation. If the EXIF block is damaged, return the image unchanged."""
    try:
        sideways = image.getexif().get(_ORIENTATION, 1) in _SIDEWAYS
        upright = ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  (the parser of a damaged block raises almost anything)
        return image, width, height
    return upright, *((height, width) if sideways else (width, height))


@cache
def load_plugins() -> None:
    """Register all of Pillow's formats. By itself Pillow does that only after the common ones have failed."""
    Image.init()


def guard_pillow(max_pixels: int) -> None:
    """Set Pillow's own limits for this process, which only decodes."""
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", module=r"PIL\..*", category=UserWarning)


def _unidentified(head: bytes) -> Exception:
    for pattern, name in _KNOWN:
        if pattern.match(head):
            return UnsupportedImageError(f"{name} files are not supported; supported formats: {', '.join(FORMATS)}")
    for pattern, name in _DECODED:
        if pattern.match(head):
            return CorruptImageError(f"damaged {name} file: its header cannot be read")
    return NotAnImageError("the content is not an image in any known format")

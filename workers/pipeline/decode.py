"""Decode: untrusted bytes to a small array of pixels, or the reason why not.

What a file is, is decided by its content. Only formats on a list are opened, sizes are checked on the header before any
pixel is decoded, JPEGs are decoded at the smallest scale that is twice what the model needs, and EXIF orientation is
applied. (Pillow handbook, "Security".)
"""

from __future__ import annotations

import io
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
    from numpy.typing import NDArray

    from ram_core.recognition import Preprocessing

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
"""What is opened. Others that Pillow knows run programs, hold scripts or had a history of dangerous decoders."""

DRAFT_FACTOR = 2
"""JPEGs are decoded at no less than this many times the model's size: next to nothing is lost, and large ones take half
the time (``docs/decisions/0008-draft-decode.md``)."""

_ORIENTATION = 0x0112
_SIDEWAYS = {5, 6, 7, 8}

# Pictures, documents and films that people keep beside pictures: named, so that the reason is clear.
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

# How files of the formats that are opened begin: one that could not be opened all the same is damaged.
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
    """Pixels for the model, and the true size of the picture as people see it (after EXIF orientation)."""

    pixels: NDArray[np.uint8]  # (S, S, 3), or what else the preprocessing makes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class ThumbnailTransform:
    """Prepares a picture for people instead of a model: its own shape, as it was, but smaller.

    Attributes:
        side: the longest that its longer side may be, in pixels.
    """

    side: int

    @property
    def size(self) -> int:
        """What a draft goes by: so that it keeps no less than ``side``."""
        return self.side // DRAFT_FACTOR

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 RGB."""
        small = to_rgb(image)
        small.thumbnail((self.side, self.side), Image.Resampling.LANCZOS)
        return np.asarray(small)


def decode(body: bytes | memoryview, preprocessing: Preprocessing, max_pixels: int) -> Decoded:
    """Decode and prepare one picture.

    Raises:
        NotAnImageError, UnsupportedImageError, TruncatedImageError, CorruptImageError, TooManyPixelsError: why not.
        MemoryError: there was not enough.
    """
    image, width, height = open_picture(body, preprocessing.size * DRAFT_FACTOR, max_pixels)
    try:
        return Decoded(preprocessing(image), width, height)
    except ImageError as error:
        raise CorruptImageError(str(error)) from error


def open_picture(body: bytes | memoryview, at_least: int, max_pixels: int) -> tuple[Image.Image, int, int]:
    """Open and load the first frame of a picture, upright; return it with its true width and height.

    Args:
        body: the file.
        at_least: a JPEG may be decoded smaller than it is, but no side under this many pixels.
        max_pixels: refuse pictures with more.
    """
    load_plugins()
    try:
        # Pillow's own limit is set by `guard_pillow`; the header is checked here in any case.
        image = Image.open(io.BytesIO(body), formats=FORMATS)
        width, height = image.size
        _refuse_large(width, height, max_pixels)
        if image.format in {"JPEG", "MPO"} and min(width, height) >= at_least:
            # The draft keeps the shape, so the shorter side decides.
            scale = at_least / min(width, height)
            image.draft(None, (round(width * scale), round(height * scale)))
        image.load()
    except TooManyPixelsError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixelsError(f"{error}") from error
    except UnidentifiedImageError:
        raise _unidentified(bytes(body[:1024])) from None
    except MemoryError:
        raise
    # Decoders raise nearly anything on damaged files (OSError, ValueError, SyntaxError, IndexError, struct.error, ...).
    except Exception as error:
        if "truncated" in str(error).lower():
            raise TruncatedImageError(f"the picture ends too early: {error}") from error
        raise CorruptImageError(f"{type(error).__name__}: {error}") from error
    return _upright(image, width, height)


def _refuse_large(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooManyPixelsError(f"{width:,} x {height:,} pixels, the limit is {max_pixels:,} in all")


def _upright(image: Image.Image, width: int, height: int) -> tuple[Image.Image, int, int]:
    """Apply the EXIF orientation. A picture whose EXIF block is damaged is still a picture: it stays as it is."""
    try:
        sideways = image.getexif().get(_ORIENTATION, 1) in _SIDEWAYS
        upright = ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  (the parser of a damaged block raises nearly anything)
        return image, width, height
    return upright, *((height, width) if sideways else (width, height))


@cache
def load_plugins() -> None:
    """Make Pillow know all its formats: it would only do so by itself after the common ones had failed."""
    Image.init()


def guard_pillow(max_pixels: int) -> None:
    """Set Pillow's own limits for this process, which does nothing but decode."""
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", module=r"PIL\..*", category=UserWarning)


def _unidentified(head: bytes) -> Exception:
    for pattern, name in _KNOWN:
        if pattern.match(head):
            return UnsupportedImageError(f"{name} is not decoded; formats: {', '.join(FORMATS)}")
    for pattern, name in _DECODED:
        if pattern.match(head):
            return CorruptImageError(f"begins like a {name} file, but its header cannot be read")
    return NotAnImageError("the content is not a picture in any known format")

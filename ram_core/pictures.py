"""Untrusted bytes to a loaded picture, or to an error that says why not. Only Pillow and numpy, thread-safe.

The content decides the file type, not the name. Only formats on a list are opened. The size is checked in the header
before any pixel is decoded. JPEGs may be decoded at a reduced scale. EXIF orientation is applied. (Pillow handbook,
"Security".)
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, UnidentifiedImageError

from ram_core.errors import ImageError, UnreadableImageError
from ram_core.transforms import SIDEWAYS, SquashTransform

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ram_core.recognition import Preprocessing

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
"""Formats that are opened. Pillow's other formats run programs, contain scripts or had dangerous decoder bugs."""

DRAFT_FACTOR = 2
"""JPEGs are decoded at no less than this many times the model's size. The loss is negligible, and large images take
half the time (``docs/decisions/0008-draft-decode.md``)."""

MAX_PIXELS = 178_956_970
"""The default limit: Pillow's own, above which it refuses a picture."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

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


@dataclass(slots=True)
class Opened:
    """A loaded image, its true width and height when it is upright, and the turn that it still needs for that."""

    image: Image.Image
    width: int
    height: int
    turn: Image.Transpose | None

    def prepare(self, preprocessing: Preprocessing) -> Decoded:
        """Return the pixels that ``preprocessing`` makes of the upright image. Not thread-safe.

        Where the whole image has to be turned for that, it stays turned: for the next, and not beside the original.
        """
        if self.turn is not None and isinstance(preprocessing, SquashTransform):
            return Decoded(preprocessing.turned(self.image, self.turn), self.width, self.height)
        if self.turn is not None:
            self.image, self.turn = self.image.transpose(self.turn), None
        return Decoded(preprocessing(self.image), self.width, self.height)


def decode_for_all(
    body: bytes | memoryview, preparations: Sequence[Preprocessing], max_pixels: int = MAX_PIXELS
) -> list[Decoded]:
    """Decode one image and prepare it in several ways, each with the same result as alone.

    It is decoded once, except that a JPEG is decoded at each of the scales that they allow: pixels from a larger scale
    would be other pixels, and tags near their threshold would depend on which stages a job has.

    Raises:
        UnreadableImageError: the bytes are no image that is decoded here.
        MemoryError: not enough memory.
    """
    loaded: dict[tuple[int, int], Opened] = {}
    try:
        return [
            open_picture(body, preprocessing.size * DRAFT_FACTOR, max_pixels, loaded).prepare(preprocessing)
            for preprocessing in preparations
        ]
    except UnreadableImageError:
        raise
    except ImageError as error:
        raise UnreadableImageError("corrupt", str(error)) from error


def open_picture(
    body: bytes | memoryview, at_least: int, max_pixels: int, loaded: dict[tuple[int, int], Opened] | None = None
) -> Opened:
    """Open and load the first frame of an image.

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
    except UnreadableImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError("too_large", f"it has more than {max_pixels:,} pixels, the limit") from error
    except UnidentifiedImageError:
        raise _unidentified(bytes(body[:1024])) from None
    except MemoryError:
        raise
    # On damaged files decoders raise almost anything (OSError, ValueError, SyntaxError, IndexError, struct.error, ...).
    except Exception as error:
        if "truncated" in str(error).lower():
            raise UnreadableImageError("truncated", f"the image is cut short: {error}") from error
        said = f"{error}" if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise UnreadableImageError("corrupt", f"the image is damaged: {said}") from error
    turn = _turn(image)
    opened = Opened(image, *((height, width) if turn in SIDEWAYS else (width, height)), turn)
    if loaded is not None:
        loaded[decoded_size] = opened
    return opened


def _refuse_large(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise UnreadableImageError(
            "too_large", f"{width:,} x {height:,} pixels exceed the limit of {max_pixels:,} pixels in total"
        )


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return what makes the image upright by its EXIF orientation, if that can be read."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  (the parser of a damaged block raises almost anything)
        return None


@cache
def load_plugins() -> None:
    """Register all of Pillow's formats. By itself Pillow does that only after the common ones have failed."""
    Image.init()


def _unidentified(head: bytes) -> UnreadableImageError:
    for pattern, name in _KNOWN:
        if pattern.match(head):
            return UnreadableImageError(
                "unsupported", f"{name} files are not supported; supported formats: {', '.join(FORMATS)}"
            )
    for pattern, name in _DECODED:
        if pattern.match(head):
            return UnreadableImageError("corrupt", f"damaged {name} file: its header cannot be read")
    return UnreadableImageError("not_an_image", "the content is not an image in any known format")

"""Untrusted bytes to a loaded picture, or to an error that says why not. Thread-safe.

The content decides the file type, not the name. Only formats on a list are opened. The size is checked in the header
before any pixel is decoded. JPEGs may be decoded at a reduced scale. EXIF orientation is applied. (Pillow handbook,
"Security".) The picture is as people see it: its colours are sRGB, and nothing is transparent. ``ram_core.opening`` has
the parts.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from ram_core.errors import ImageError, UnreadableImageError
from ram_core.opening import code_points, colours, cut, depth, formats, frames, modern, pages, pdf, raw
from ram_core.tiling import TilingTransform
from ram_core.transforms import SIDEWAYS, SquashTransform

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ram_core.recognition import Preprocessing

FORMATS = formats.PILLOW
"""Formats that Pillow opens. HEIC, JPEG XL and the pictures in camera raw come to them."""

DRAFT_FACTOR = 2
"""JPEGs are decoded at no less than this many times the model's size. The loss is negligible, and large images take
half the time (``docs/decisions/0008-draft-decode.md``)."""

MAX_PIXELS = 178_956_970
"""The default limit: Pillow's own, above which it refuses a picture."""

_JPEG_FACTOR = 2
"""A JPEG of this many times the limit is decoded if a reduced scale keeps it within the limit: what is decoded takes
the memory. A progressive one needs 6 bytes for each of its pixels too. A decoder has 16 for each of the limit."""

_MOST_TEXT_BYTES = 64 * 1024 * 1024

_ORIENTATION = 0x0112
_UPRIGHT = 1
_JPEG = b"\xff\xd8\xff"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Decoded(NamedTuple):
    """Pixels for the model, and the displayed size of the image (after EXIF orientation).

    ``share`` is that of the rows which were read of a file that is cut short; None: it is whole; 1: the first page is,
    but those behind the last of ``pages`` cannot be read. ``pages`` is how many pages the file has: this is one.
    """

    pixels: NDArray[np.uint8]  # (S, S, 3), or the shape that the preprocessing returns
    width: int
    height: int
    share: float | None = None
    pages: int = 1


@dataclass(slots=True)
class Opened:
    """A loaded image, its true width and height when it is upright, and the turn that it still needs for that.

    ``convert`` makes (H, W, 3) pixels of it sRGB; None: they are. ``share`` and ``pages``: as of ``Decoded``.
    """

    image: Image.Image
    width: int
    height: int
    turn: Image.Transpose | None
    convert: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
    share: float | None = None
    pages: int = 1

    def prepare(self, preprocessing: Preprocessing) -> Decoded:
        """Return the pixels that ``preprocessing`` makes of the upright image. Not thread-safe.

        Where the whole image has to be turned for that, it stays turned: for the next, and not beside the original.
        """
        if isinstance(preprocessing, TilingTransform):
            preprocessing = preprocessing.of(self.image.size)
        if self.turn is not None and isinstance(preprocessing, SquashTransform):
            pixels = preprocessing.turned(self.image, self.turn)
        else:
            if self.turn is not None:
                self.image, self.turn = self.image.transpose(self.turn), None
            pixels = preprocessing(self.image)
        shown = pixels if self.convert is None else self.convert(pixels)
        return Decoded(shown, self.width, self.height, self.share, self.pages)


def decode_for_all(
    body: bytes | memoryview,
    preparations: Sequence[Preprocessing],
    max_pixels: int = MAX_PIXELS,
    *,
    reads_truncated: bool = False,
    page: int = 1,
) -> list[Decoded]:
    """Decode one image and prepare it in several ways, each with the same result as alone.

    It is decoded once, except that a JPEG is decoded at each of the scales that they allow: pixels from a larger scale
    would be other pixels, and tags near their threshold would depend on which stages a job has. With
    ``reads_truncated`` a file that is cut short is read as far as it goes (``ram_core.opening.cut``). ``page`` is the
    number of the page, from 1, of a file that has pages. A writable ``body`` may be changed: see ``opening.pages``.

    Raises:
        UnreadableImageError: the bytes are no image that is decoded here.
        MemoryError: not enough memory.
    """
    kept = Kept(page)
    try:
        return [
            open_picture(
                body, preprocessing.size * DRAFT_FACTOR, max_pixels, kept, reads_truncated=reads_truncated
            ).prepare(preprocessing)
            for preprocessing in preparations
        ]
    except ImageError as error:
        reason = error.reason if isinstance(error, UnreadableImageError) else "corrupt"
        more = f"; {pages.behind(kept.pages)}" if kept.is_cut and page == 1 else ""
        raise UnreadableImageError(reason, f"{error}{more}", kept.pages) from error


def open_picture(
    body: bytes | memoryview,
    at_least: int,
    max_pixels: int,
    kept: Kept | None = None,
    *,
    reads_truncated: bool = False,
) -> Opened:
    """Open and load an image: the first frame that shows something, as people see it.

    Args:
        body: the file.
        at_least: minimum length of the shorter side in pixels; a JPEG may be decoded at a reduced scale down to this.
        max_pixels: images with more pixels are rejected, except JPEGs of up to ``_JPEG_FACTOR`` times as many that are
            decoded at a reduced scale within the limit.
        kept: which page is wanted, and what was opened of the same image before; nothing is loaded twice.
        reads_truncated: whether a file that is cut short is read as far as it goes.
    """
    load_plugins()
    kept = kept or Kept()
    try:
        # `guard_pillow` sets Pillow's own limit. The header is checked here in any case.
        inner = kept.inner = kept.inner or _inner(body, partial(_refuse_large, max_pixels), kept)
        image = inner.image or _by_pillow(inner.body)
        width, height = image.size
        if image.format in {"JPEG", "MPO"} and min(width, height) >= at_least:
            # The draft keeps the aspect ratio, so the shorter side decides.
            scale = at_least / min(width, height)
            image.draft(None, (round(width * scale), round(height * scale)))
        decoded_size = image.size
        if decoded_size == (width, height) or width * height > _JPEG_FACTOR * max_pixels:
            _refuse_large(max_pixels, width, height)
        _refuse_large(max_pixels, *decoded_size)
        if decoded_size in kept.by_size:
            return kept.by_size[decoded_size]
        opened = _loaded(image, inner, width, height, reads_truncated=reads_truncated)
        opened.pages = kept.pages
        if kept.is_cut and kept.page == 1 and opened.share is None:
            opened.share = 1.0
    except UnreadableImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError("too_large", f"it has more than {max_pixels:,} pixels, the limit") from error
    except UnidentifiedImageError:
        raise formats.unidentified(body) from None
    except MemoryError:
        raise
    # On damaged files decoders raise almost anything (OSError, ValueError, SyntaxError, IndexError, struct.error, ...).
    except Exception as error:
        raise formats.undecodable(body, error) from error
    kept.by_size[decoded_size] = opened
    return opened


class Inner(NamedTuple):
    """What a file holds: an image, or a file that Pillow opens.

    Attributes:
        body: the file.
        image: the image, if it is opened already.
        orientation: as EXIF has it, of the file around this one; None: what this one says is all there is.
    """

    body: bytes | memoryview
    image: Image.Image | None = None
    orientation: int | None = None


@dataclass(slots=True)
class Kept(pages.Wanted):
    """What was opened of one image: what its file holds, and the loaded images by their size as decoded."""

    inner: Inner | None = None
    by_size: dict[tuple[int, int], Opened] = field(default_factory=dict)


def _inner(body: bytes | memoryview, check: Callable[[int, int], None], kept: Kept) -> Inner:
    """Return what a file holds. ``check`` is called with its width and height, if telling this decodes it.

    ``kept`` says which page is wanted, and is told how many there are.
    """
    head = bytes(body[: formats.HEAD_BYTES])
    if formats.is_pdf(head):
        return Inner(body, pdf.draw(body, kept, check), _UPRIGHT)
    name = raw.format_of(body)
    if formats.is_tiff(head) and not name:
        shown = pages.at_page(body, kept)
        formats.require_readable_tiff(shown)
        return Inner(shown)
    kept.require_page()
    if name:
        preview = raw.preview(body, name)
        return Inner(preview.body, orientation=preview.orientation)
    if formats.is_heif(head):
        return Inner(body, modern.open_heif(body, check), _UPRIGHT)
    if formats.is_jpeg_xl(head):
        found = modern.open_jpeg_xl(body, check)
        return Inner(found) if isinstance(found, bytes) else Inner(body, found, _UPRIGHT)
    return Inner(body)


def _loaded(image: Image.Image, inner: Inner, width: int, height: int, *, reads_truncated: bool) -> Opened:
    """Load an image of this size, and make it what is shown."""
    is_deep, has_own = depth.is_deep(image), inner.orientation is None
    if inner.image is None and not has_own:
        has_own = _orientation(image) is not None  # before it is loaded: Pillow turns TIFF when it does
    share = _load(image, reads_truncated=reads_truncated)
    turn = _TURNS.get((_orientation(image) if has_own else inner.orientation) or _UPRIGHT)
    shown = frames.first_with_content(image)
    if shown is image and is_deep and not image.tell():
        shown = depth.in_used_range(image, inner.body)
    declared = code_points.of_file(inner.body, image.format)
    image, convert = colours.as_shown(depth.with_white_as_light(shown), declared)
    size = (height, width) if turn in SIDEWAYS else (width, height)
    return Opened(image, *size, turn, convert, share)


def _load(image: Image.Image, *, reads_truncated: bool) -> float | None:
    """Load an image. Return the share of its rows that were read if its file is cut short; None: it is whole."""
    try:
        image.load()
    except OSError as error:
        if not (reads_truncated and formats.is_cut_short(error) and cut.can_be_read(image)):
            raise
        share = cut.load(image)
        if share < cut.LEAST_SHARE:
            raise UnreadableImageError(
                "truncated",
                f"the image is cut short: {share:.0%} of its rows can be read, and {cut.LEAST_SHARE:.0%} are needed",
            ) from error
        return share
    return None


def _by_pillow(body: bytes | memoryview) -> Image.Image:
    return Image.open(io.BytesIO(body), formats=FORMATS)


def _refuse_large(max_pixels: int, width: int, height: int) -> None:
    if width * height > max_pixels:
        raise UnreadableImageError(
            "too_large", f"{width:,} x {height:,} pixels exceed the limit of {max_pixels:,} pixels in total"
        )


def _orientation(image: Image.Image) -> int | None:
    """Return an image's own EXIF orientation, if it has one that can be read."""
    try:
        found = image.getexif().get(_ORIENTATION)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  (the parser of a damaged block raises almost anything)
        return None
    return found if isinstance(found, int) else None


@cache
def load_plugins() -> None:
    """Register all of Pillow's formats. By itself Pillow does that only after the common ones have failed."""
    Image.init()
    # A long text beside the pixels is no reason to refuse them. Pillow's own limits are 1 and 64 MB.
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = _MOST_TEXT_BYTES

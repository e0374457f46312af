"""HEIC and JPEG XL, which Pillow does not decode. Their packages are loaded for the first such file.

HEIC: pillow-heif (libheif, libde265). Only the primary picture is decoded, not thumbnails, depth or other auxiliary
pictures. JPEG XL: pillow-jxl-plugin (libjxl). A JPEG that was made smaller without loss becomes that JPEG again.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from PIL import Image

from ram_core.errors import UnreadableImageError

if TYPE_CHECKING:
    from collections.abc import Callable

_RATIOS = ((1, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIZE_BITS = (9, 13, 18, 30)
_HEADER_BYTES = 16
_MOST_BOXES = 64
_SIZE = re.compile(rb"ispe\x00{4}(.{4})(.{4})", re.DOTALL)
_SEARCHED_BYTES = 1 << 20
"""Of HEIC: what is said of its pictures stands at the beginning, and their sizes in boxes ``ispe``."""


def open_heif(body: bytes | memoryview, check: Callable[[int, int], None]) -> Image.Image:
    """Return the primary picture of a HEIC file, not loaded. It is upright: its container says how it is turned.

    Args:
        body: the file.
        check: called with the width and height of the largest picture that the file says it has, before anything is
            decoded.

    Raises:
        UnreadableImageError: the package is missing, or what ``check`` raises.
        SyntaxError: the file is damaged.
    """
    try:
        from pillow_heif import HeifImageFile, options  # noqa: PLC0415  (most processes never meet such a file)
    except ImportError as error:
        raise _missing("HEIC", "pillow-heif") from error
    sizes = [(int.from_bytes(w, "big"), int.from_bytes(h, "big")) for w, h in _SIZE.findall(body[:_SEARCHED_BYTES])]
    if sizes:
        check(*max(sizes, key=lambda size: size[0] * size[1]))
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    options.DECODE_THREADS = 1  # there is a process for each core
    image: Image.Image = HeifImageFile(io.BytesIO(body))
    return image


def open_jpeg_xl(body: bytes | memoryview, check: Callable[[int, int], None]) -> Image.Image | bytes:
    """Return the first frame of a JPEG XL file, decoded and upright, or the JPEG file that it was made of.

    Args:
        body: the file.
        check: called with the width and height in the header, before anything is decoded.

    Raises:
        UnreadableImageError: the package is missing, or what ``check`` raises.
        ValueError: the file is damaged, or cut short.
    """
    size = jpeg_xl_size(body)
    if size is None:
        raise ValueError("its header cannot be read")
    check(*size)
    try:
        from pillow_jxl import Decoder  # noqa: PLC0415  (most processes never meet such a file)
    except ImportError as error:
        raise _missing("JPEG XL", "pillow-jxl-plugin") from error
    try:
        is_jpeg, info, pixels, profile, _boxes = Decoder(num_threads=0)(bytes(body))
    except MemoryError:
        raise
    # Its message is for those who build it, and it panics on some files, which is no Exception.
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ValueError("libjxl cannot decode it; it may be cut short") from error
        raise
    if is_jpeg:
        return bytes(pixels)
    mode = "F" if info.mode == "F;16" else info.mode
    image = Image.frombytes(mode, (info.width, info.height), pixels)
    if profile:
        image.info["icc_profile"] = bytes(profile)
    return image


def jpeg_xl_size(body: bytes | memoryview) -> tuple[int, int] | None:
    """Return the width and height in the header of a JPEG XL file, before it is turned (ISO 18181-1, annex D)."""
    stream = _codestream(body)
    if bytes(stream[:2]) != b"\xff\x0a":
        return None
    bits = int.from_bytes(stream[2:_HEADER_BYTES], "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    is_small = bool(take(1))

    def side() -> int:
        return (take(5) + 1) * 8 if is_small else take(_SIZE_BITS[take(2)]) + 1

    height = side()
    ratio = take(3)
    if not ratio:
        return side(), height
    across, down = _RATIOS[ratio]
    return height * across // down, height


def _codestream(body: bytes | memoryview) -> bytes | memoryview:
    """Return the file from the beginning of its picture on; nothing if there is none (ISO 18181-2)."""
    if bytes(body[:2]) == b"\xff\x0a":
        return body
    at = 0
    for _ in range(_MOST_BOXES):
        length, kind, content = int.from_bytes(body[at : at + 4], "big"), bytes(body[at + 4 : at + 8]), at + 8
        if length == 1:
            length, content = int.from_bytes(body[at + 8 : at + 16], "big"), at + 16
        if kind == b"jxlc":
            return body[content : content + _HEADER_BYTES]
        if kind == b"jxlp":  # a part, after its number
            return body[content + 4 : content + 4 + _HEADER_BYTES]
        if length < 8:
            break
        at += length
    return b""


def _missing(name: str, package: str) -> UnreadableImageError:
    return UnreadableImageError(
        "unsupported",
        f"{name} files are read with the package {package}, which this worker's Python does not have: "
        f"`pip install {package}`, restart the worker, then `ramq retry JOB --class unsupported`",
    )

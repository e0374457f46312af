"""The largest finished picture inside a file of a camera's raw data: the JPEG that the camera made of them.

The data of the sensor are not developed. Every JPEG in the file is found by its own header, since each maker has
another table for where they are. TIFF directories say which of them are parts of something else, which pictures are
stored in several strips, and how the camera was held.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, NamedTuple

from ram_core.errors import UnreadableImageError
from ram_core.opening import jpeg, tiff

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAST_SIDE = 384
"""The least length in pixels of a picture's longer side: the size that RAM sees. Every raw file has a thumbnail of
160 x 120 pixels or so, and tags of that would be tags of another picture."""

FORMATS = {
    "ARW": "Sony", "CR2": "Canon", "CR3": "Canon", "DNG": "Adobe, phones and others", "NEF": "Nikon",
    "ORF": "Olympus, OM System", "PEF": "Pentax", "RAF": "Fujifilm", "RW2": "Panasonic, Leica", "SRW": "Samsung",
    "X3F": "Sigma",
}  # fmt: skip
"""The formats, and whose they are."""

# Beginnings of files that are not TIFF, or not quite.
_HEADS = (
    (re.compile(rb"....ftypcrx ", re.DOTALL), "CR3"),
    (re.compile(rb"II\*\x00....CR", re.DOTALL), "CR2"),
    (re.compile(rb"IIU\x00"), "RW2"),
    (re.compile(rb"IIR[OS]|MMOR"), "ORF"),
    (re.compile(rb"FUJIFILMCCD-RAW"), "RAF"),
    (re.compile(rb"FOVb"), "X3F"),
)
_TIFF = re.compile(rb"II[*+]\x00|MM\x00[*+]")
_MAKERS = (("NIKON", "NEF"), ("SONY", "ARW"), ("PENTAX", "PEF"), ("RICOH", "PEF"), ("SAMSUNG", "SRW"))
_COMPRESSIONS = frozenset({32767, 32769, 32770, 34713, 65535})
"""Of sensor data, by Sony, several, Samsung, Nikon and Pentax."""

_START = re.compile(rb"\xff\xd8\xff")
_MOST_STARTS = 1_000
_ORIENTATION_OF_X3F = {0: 1, 90: 6, 180: 3, 270: 8}
_X3F_ROTATION_AT = 36
_CR3_SEARCHED_BYTES = 1 << 20


class Preview(NamedTuple):
    """The picture that stands for a raw file.

    Attributes:
        body: a JPEG or TIFF file.
        width: in pixels, before it is turned.
        height: in pixels, before it is turned.
        orientation: of the raw file, as EXIF has it: for a picture that has none itself.
    """

    body: bytes | memoryview
    width: int
    height: int
    orientation: int


def format_of(body: bytes | memoryview) -> str | None:
    """Return the name of a camera's raw format, or ``camera raw`` if it is another one; None for other files."""
    head = bytes(body[:32])
    for pattern, name in _HEADS:
        if pattern.match(head):
            return name
    if not _TIFF.match(head):
        return None
    directories = list(tiff.Tiff(body).directories())
    if any(tiff.DNG_VERSION in each.values for each in directories):
        return "DNG"
    if not any(each.is_sensor or each.one(tiff.COMPRESSION) in _COMPRESSIONS for each in directories):
        return None
    make = bytes(value & 0xFF for value in directories[0].values.get(tiff.MAKE, ())).upper()
    return next((name for maker, name in _MAKERS if make.startswith(maker.encode())), "camera raw")


def preview(body: bytes | memoryview, name: str) -> Preview:
    """Return the largest picture in a raw file.

    Args:
        body: the file.
        name: its format, as ``format_of`` says.

    Raises:
        UnreadableImageError: it has none, or none with ``LEAST_SIDE`` pixels.
    """
    is_tiff = bytes(body[:2]) in {b"II", b"MM"}
    directories = list(tiff.Tiff(body).directories()) if is_tiff else []
    found = max(_pictures(body, directories), key=lambda each: each.width * each.height, default=None)
    raw = "camera raw" if name == "camera raw" else f"camera raw ({name})"
    if found is None or max(found.width, found.height) < LEAST_SIDE:
        has = f"its largest one has {found.width} x {found.height}" if found else "it has none"
        raise UnreadableImageError(
            "unsupported",
            f"{raw} is read by its largest embedded picture, which needs {LEAST_SIDE} pixels on the longer side, and "
            f"{has}; develop it to JPEG, or write a full-size preview into it",
        )
    return found._replace(orientation=_orientation(body, name, directories))


def _pictures(body: bytes | memoryview, directories: list[tiff.Directory]) -> Iterator[Preview]:
    """Yield the pictures in a file. The first one of the same size is the one to take."""
    yield from _jpegs(body, {part for each in directories if not _is_one_jpeg(each) for part in each.parts})
    for each in directories:
        if _is_finished(each) and not (_is_one_jpeg(each) and bytes(body[each.parts[0] :][:2]) == b"\xff\xd8"):
            yield Preview(_starting_with(body, each.at), each.one(tiff.WIDTH), each.one(tiff.HEIGHT), 1)


def _jpegs(body: bytes | memoryview, parts: set[int]) -> Iterator[Preview]:
    """Yield the JPEGs, but not those inside others, nor those that are parts of a larger picture."""
    at = 0
    for _ in range(_MOST_STARTS):
        start = _START.search(body, at)
        if start is None:
            return
        header = None if start.start() in parts else jpeg.frame(body, start.start())
        if header is None or not header.is_picture:
            at = start.start() + 2
            continue
        at = jpeg.end(body, header)
        yield Preview(memoryview(body)[start.start() : at], header.width, header.height, 1)


def _is_finished(directory: tiff.Directory) -> bool:
    """Tell whether a directory is a picture of 8 bits in RGB or YCbCr."""
    has_size = directory.one(tiff.WIDTH) > 0 and directory.one(tiff.HEIGHT) > 0 and bool(directory.parts)
    is_coloured = directory.one(tiff.PHOTOMETRIC) in {tiff.RGB, tiff.YCBCR}
    return has_size and is_coloured and set(directory.bits) == {8}


def _is_one_jpeg(directory: tiff.Directory) -> bool:
    """Tell whether a directory's data may be a whole JPEG: one strip, with its own tables, not of a sensor."""
    return not directory.is_sensor and len(directory.parts) == 1 and tiff.JPEG_TABLES not in directory.values


def _starting_with(body: bytes | memoryview, at: int) -> bytes:
    """Return the file with another directory as its first one."""
    place, code = tiff.Tiff(body).first_at
    changed = bytearray(body)
    struct.pack_into(code, changed, place, at)
    return bytes(changed)


def _orientation(body: bytes | memoryview, name: str, directories: list[tiff.Directory]) -> int:
    if name == "X3F":
        rotation = bytes(body[_X3F_ROTATION_AT : _X3F_ROTATION_AT + 4])
        return _ORIENTATION_OF_X3F.get(int.from_bytes(rotation, "little"), 1)
    if name == "CR3":  # the box CMT1 holds the first directory of a CR2
        at = bytes(body[:_CR3_SEARCHED_BYTES]).find(b"CMT1")
        directories = list(tiff.Tiff(body, at + 4).directories()) if at >= 0 else []
    return directories[0].one(tiff.ORIENTATION, 1) if directories else 1

"""Where a file keeps EXIF, IPTC and XMP: the blocks as they are, within bounds.

JPEG, PNG, WebP and TIFF are walked through here, since Pillow decodes a PNG to look for what is behind its pixels. Of
the other formats, Pillow reads the header.
"""

from __future__ import annotations

import hashlib
import io
import re
import zlib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from PIL import Image

from ram_core.metadata import exif as tags
from ram_core.metadata.exif import Exif
from ram_core.pictures import FORMATS, load_plugins

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_BLOCK_BYTES = 1 << 20
"""Of XMP and of IPTC. EXIF is not copied, and may be as large as the file."""

MOST_MORE_XMP_BYTES = 8 << 20
"""Of extended XMP: telephones put maps of depth into it."""

MOST_PARTS = 10_000
"""Segments or chunks of a file that are looked at. A large PNG has some thousands, with its pixels."""

_EXIF_MARK, _XMP_MARK, _PHOTOSHOP_MARK = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\0"
_MORE_XMP_MARK, _HAS_MORE = (
    b"http://ns.adobe.com/xmp/extension/\0",
    re.compile(rb"HasExtendedXMP[^0-9A-Fa-f]{1,9}([0-9A-Fa-f]{32})"),
)
_DIGEST_BYTES, _PART_HEAD_BYTES = 32, 40
_APP1, _APP13, _START_OF_SCAN, _END = 0xE1, 0xED, 0xDA, 0xD9
_ALONE = {0x01, *range(0xD0, 0xD9)}
_RESOURCE, _IPTC_RESOURCE, _DIGEST_RESOURCE = b"8BIM", 0x0404, 0x0425
_PNG, _TIFF = b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_IS_XMP = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?>(?:<\?[^>]*>\s*|<!--.*?-->\s*)*)<(?:\w+:)?(?:xmpmeta|xapmeta|RDF)\b", re.DOTALL
)
"""A file of XMP alone, as a sidecar is: its first element, behind what may stand before it."""
_SEARCHED_BYTES = 4096
_PNG_XMP, _PNG_PROFILE = b"XML:com.adobe.xmp", b"Raw profile type "


@dataclass(slots=True)
class Blocks:
    """The blocks of a file, as far as it has them.

    Attributes:
        exif: its tags.
        iptc: data sets of IPTC-IIM.
        xmp: a packet.
        more_xmp: what did not fit into it: JPEGs have packets of up to 64 kB (XMP specification, part 3, 1.1.3.1).
        is_iptc_newer: whether a program changed IPTC that did not know of the XMP beside it: the digest of IPTC in the
            file is that of others (Metadata Working Group, Guidelines 2.0, 3.3.1).
    """

    exif: Exif
    iptc: bytes = b""
    xmp: bytes = b""
    more_xmp: bytes = b""
    is_iptc_newer: bool = False


def blocks_of(body: memoryview) -> Blocks:
    """Return the blocks of a file."""
    head = bytes(body[:12])
    if head.startswith(b"\xff\xd8"):
        return _of_jpeg(body)
    if head.startswith(_PNG):
        return _of_png(body)
    if head.startswith(b"RIFF") and head.endswith(b"WEBP"):
        return _of_webp(body)
    if is_xmp(body):
        return Blocks(Exif(body[:0]), xmp=_within(body))
    if head.startswith(_TIFF):
        exif = Exif(body)
        iptc, xmp = (exif.image.get(tag) for tag in (tags.IPTC, tags.XMP))
        return Blocks(exif, iptc.raw if iptc else b"", xmp.raw if xmp else b"")
    return _of_others(body)


def is_xmp(body: memoryview) -> bool:
    """Return whether a file is XMP alone, as a sidecar is. What follows its first element is not looked at."""
    return bool(_IS_XMP.match(bytes(body[:_SEARCHED_BYTES])))


def _exif(data: memoryview) -> Exif:
    return Exif(data[len(_EXIF_MARK) :] if data[: len(_EXIF_MARK)] == _EXIF_MARK else data)


def _within(data: memoryview) -> bytes:
    return bytes(data) if len(data) <= MOST_BLOCK_BYTES else b""


def _of_jpeg(body: memoryview) -> Blocks:
    blocks, photoshop = Blocks(Exif(body[:0])), b""
    more = _MoreXmp()
    for marker, part in _segments(body):
        if marker == _APP1 and part[: len(_EXIF_MARK)] == _EXIF_MARK and not blocks.exif.image:
            blocks.exif = _exif(part)
        elif marker == _APP1 and part[: len(_XMP_MARK)] == _XMP_MARK and not blocks.xmp:
            blocks.xmp = _within(part[len(_XMP_MARK) :])
        elif marker == _APP1 and part[: len(_MORE_XMP_MARK)] == _MORE_XMP_MARK:
            more.add(part[len(_MORE_XMP_MARK) :])
        elif marker == _APP13 and part[: len(_PHOTOSHOP_MARK)] == _PHOTOSHOP_MARK and len(photoshop) < MOST_BLOCK_BYTES:
            photoshop += bytes(part[len(_PHOTOSHOP_MARK) :])  # it may be cut into several
    _add_photoshop(blocks, photoshop)
    blocks.more_xmp = more.of(blocks.xmp)
    return blocks


class _MoreXmp:
    """The parts of extended packets, each by the digest that names its packet."""

    def __init__(self) -> None:
        self._parts: dict[bytes, list[tuple[int, memoryview]]] = {}

    def add(self, part: memoryview) -> None:
        """Take a part: behind the digest, the length of the packet, and where in it this part stands."""
        if len(part) > _PART_HEAD_BYTES:
            name, at = bytes(part[:_DIGEST_BYTES]), int.from_bytes(part[_DIGEST_BYTES + 4 : _PART_HEAD_BYTES])
            self._parts.setdefault(name, []).append((at, part[_PART_HEAD_BYTES:]))

    def of(self, xmp: bytes) -> bytes:
        """Return the packet whose digest stands in another one, if all of its parts are there."""
        named = _HAS_MORE.search(xmp)
        parts = sorted(self._parts.get(named[1].upper(), []), key=lambda part: part[0]) if named else []
        if sum(len(part) for _, part in parts) > MOST_MORE_XMP_BYTES:
            return b""
        packet = b""
        for at, part in parts:
            if at != len(packet):
                return b""
            packet += bytes(part)
        return packet


def _segments(body: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the segments of a JPEG before its pixels."""
    at = 2
    for _ in range(MOST_PARTS):
        if at + 4 > len(body) or body[at] != 0xFF:
            return
        marker = body[at + 1]
        if marker == 0xFF:  # fill
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in {_START_OF_SCAN, _END}:
            return
        else:
            size = int.from_bytes(body[at + 2 : at + 4])
            yield marker, body[at + 4 : at + 2 + size]
            at += 2 + max(2, size)


def _add_photoshop(blocks: Blocks, data: bytes) -> None:
    """Take IPTC and its digest from resources of Photoshop."""
    at, digest = 0, b""
    while data[at : at + 4] == _RESOURCE and at + 12 <= len(data):
        number = int.from_bytes(data[at + 4 : at + 6])
        named = data[at + 6] + 1
        begin = at + 6 + named + named % 2 + 4
        size = int.from_bytes(data[begin - 4 : begin])
        if number == _IPTC_RESOURCE and not blocks.iptc:
            blocks.iptc = data[begin : begin + size]
        elif number == _DIGEST_RESOURCE:
            digest = data[begin : begin + size]
        at = begin + size + size % 2
    if any(digest) and blocks.iptc:
        blocks.is_iptc_newer = hashlib.md5(blocks.iptc, usedforsecurity=False).digest() != digest


def _of_png(body: memoryview) -> Blocks:
    blocks = Blocks(Exif(body[:0]))
    for kind, part in islice(_chunks(body, len(_PNG)), MOST_PARTS):
        if kind == b"eXIf":
            blocks.exif = _exif(part)
        elif kind in {b"iTXt", b"zTXt", b"tEXt"} and len(part) <= MOST_BLOCK_BYTES:
            name, _, rest = bytes(part).partition(b"\0")
            if name == _PNG_XMP and kind == b"iTXt":
                blocks.xmp = blocks.xmp or _international(rest)
            elif name.startswith(_PNG_PROFILE):
                written = rest if kind == b"tEXt" else _inflated(rest[1:]) if kind == b"zTXt" else _international(rest)
                _add_profile(blocks, name.removeprefix(_PNG_PROFILE), written)
    return blocks


def _chunks(body: memoryview, at: int) -> Iterator[tuple[bytes, memoryview]]:
    while at + 8 <= len(body):
        size, kind = int.from_bytes(body[at : at + 4]), bytes(body[at + 4 : at + 8])
        yield kind, body[at + 8 : at + 8 + size]
        at += 12 + size


def _international(rest: bytes) -> bytes:
    """Return the text of an iTXt chunk, from behind its keyword."""
    is_compressed = rest[:1] == b"\1"
    text = rest[2:].split(b"\0", 2)[-1]
    return _inflated(text) if is_compressed else text


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, MOST_BLOCK_BYTES)
    except zlib.error:
        return b""


def _add_profile(blocks: Blocks, name: bytes, written: bytes) -> None:
    """Take a block that is written as hexadecimal numbers, behind its name and its length: as ImageMagick does."""
    try:
        data = bytes.fromhex(b"".join(written.split()[2:]).decode("ascii"))
    except ValueError:
        return
    if name in {b"exif", b"APP1"} and not blocks.exif.image:
        blocks.exif = _exif(memoryview(data))
    if name == b"xmp":
        blocks.xmp = blocks.xmp or data
    if name in {b"iptc", b"8bim"}:
        if data.startswith(_RESOURCE):
            _add_photoshop(blocks, data)
        else:
            blocks.iptc = blocks.iptc or data


def _of_webp(body: memoryview) -> Blocks:
    blocks, at = Blocks(Exif(body[:0])), 12
    for _ in range(MOST_PARTS):
        if at + 8 > len(body):
            break
        kind, size = bytes(body[at : at + 4]), int.from_bytes(body[at + 4 : at + 8], "little")
        part = body[at + 8 : at + 8 + size]
        if kind == b"EXIF":
            blocks.exif = _exif(part)
        elif kind == b"XMP ":
            blocks.xmp = _within(part)
        at += 8 + size + size % 2
    return blocks


def _of_others(body: memoryview) -> Blocks:
    load_plugins()
    with Image.open(io.BytesIO(body), formats=FORMATS) as image:
        exif, xmp = image.info.get("exif", b""), image.info.get("xmp", b"")
    told = [each if isinstance(each, bytes) else b"" for each in (exif, xmp)]
    return Blocks(_exif(memoryview(told[0])), xmp=_within(memoryview(told[1])))

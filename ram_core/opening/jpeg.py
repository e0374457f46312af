"""The header of a JPEG: its kind, its size, and where it ends (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
from typing import NamedTuple

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_CONTENT = frozenset({0x01, *range(0xD0, 0xD9)})
_START_OF_SCAN, _END = 0xDA, 0xD9
_MOST_SEGMENTS = 5_000
_FRAME_BYTES = 8

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""What ends the data of a scan. Between its bytes stand only stuffed zeros and restart markers."""

_BASELINE, _EXTENDED, _PROGRESSIVE, _LOSSLESS = 0, 1, 2, 3


class Frame(NamedTuple):
    """What the header says.

    Attributes:
        process: n of the marker SOFn, which says how the picture is coded.
        bits: of a sample.
        width: in pixels.
        height: in pixels.
        channels: samples of a pixel.
        scan_at: offset of the first scan, from the beginning of the body.
    """

    process: int
    bits: int
    width: int
    height: int
    channels: int
    scan_at: int

    @property
    def is_picture(self) -> bool:
        """Whether every decoder shows it: 8 bits, not lossless as the data of sensors are, and not empty."""
        is_common = self.process in {_BASELINE, _EXTENDED, _PROGRESSIVE} and self.bits == 8
        return is_common and self.channels in {1, 3} and min(self.width, self.height) > 0


def frame(body: bytes | memoryview, start: int = 0) -> Frame | None:
    """Return what the header of the JPEG at ``start`` says; None if there is no whole header."""
    at, found = start + 2, None
    for _ in range(_MOST_SEGMENTS):
        while at + 1 < len(body) and body[at] == 0xFF and body[at + 1] == 0xFF:  # fill bytes
            at += 1
        if at + 4 > len(body) or body[at] != 0xFF:
            return None
        marker = body[at + 1]
        if marker in _WITHOUT_CONTENT:
            at += 2
            continue
        if marker == _START_OF_SCAN:
            return found and found._replace(scan_at=at)
        length = int.from_bytes(body[at + 2 : at + 4], "big")
        if marker == _END or length < 2:
            return None
        if marker in _START_OF_FRAME and found is None:
            content = body[at + 4 : at + 4 + _FRAME_BYTES]
            if len(content) < 6:
                return None
            height, width = (int.from_bytes(content[first : first + 2], "big") for first in (1, 3))
            found = Frame(marker - 0xC0, content[0], width, height, content[5], at)
        at += 2 + length
    return None


def end(body: bytes | memoryview, header: Frame) -> int:
    """Return the offset behind the last byte of a JPEG; that of the body if it has no end."""
    at = header.scan_at
    for _ in range(_MOST_SEGMENTS):
        if at + 4 > len(body):
            break
        at += 2 + int.from_bytes(body[at + 2 : at + 4], "big")  # a scan's header, or a table between two scans
        marker = _MARKER.search(body, at)
        if marker is None:
            break
        at = marker.start()
        if body[at + 1] == _END:
            return at + 2
    return len(body)


def why_unsupported(body: bytes | memoryview) -> str | None:
    """Return what kind of JPEG this is if it is one that is not decoded; None for others, and without a header."""
    header = frame(body)
    if header is None:
        return None
    if header.process == _LOSSLESS:
        return "a lossless JPEG"
    if header.bits != 8:
        return f"a JPEG with {header.bits} bits per sample"
    if header.process in {5, 6, 7, 11, 13, 14, 15}:
        return f"a JPEG with coding process {header.process}"
    if header.channels not in {1, 3, 4}:
        return f"a JPEG with {header.channels} channels"
    return None

"""Tags of EXIF, which is a TIFF structure. Only those that are wanted are read, each within a bound.

Source: Exif 3.0 (CIPA DC-008), TIFF 6.0. Maker notes are never looked into.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_ENTRIES = 1_000
"""Of a directory. Real ones have less than a hundred."""

MOST_NUMBERS = 8
"""Of a value. Angles have three."""

MOST_VALUE_BYTES = 1 << 20
"""Of a value: XMP in a TIFF is the largest."""

IMAGE_DESCRIPTION, MAKE, MODEL, ARTIST, COPYRIGHT = 0x010E, 0x010F, 0x0110, 0x013B, 0x8298
XMP, RATING, IPTC, EXIF_DIRECTORY, GPS_DIRECTORY = 0x02BC, 0x4746, 0x83BB, 0x8769, 0x8825
XP_TITLE, XP_COMMENT, XP_AUTHOR, XP_KEYWORDS = 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E
EXPOSURE_TIME, F_NUMBER, ISO, FOCAL_LENGTH, LENS_MODEL = 0x829A, 0x829D, 0x8827, 0x920A, 0xA434
TAKEN, DIGITIZED, TAKEN_OFFSET, DIGITIZED_OFFSET = 0x9003, 0x9004, 0x9011, 0x9012
TAKEN_SUBSECONDS, DIGITIZED_SUBSECONDS = 0x9291, 0x9292
LATITUDE_REF, LATITUDE, LONGITUDE_REF, LONGITUDE, ALTITUDE_REF, ALTITUDE, GPS_TIME = 1, 2, 3, 4, 5, 6, 7
GPS_DATE = 0x001D

_SIZES: Final = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8, 129: 1,
}  # fmt: skip
_WHOLE: Final = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_FRACTIONS: Final = {5: "II", 10: "ii"}
_FLOATS: Final = {11: "f", 12: "d"}


class _Layout(NamedTuple):
    """Where numbers stand: of TIFF, or of BigTIFF, whose offsets have 64 bits."""

    first_at: int  # of the offset of the first directory
    head: str  # number of entries
    entry: str  # tag, type, number of values
    offset: str

    @property
    def entry_bytes(self) -> int:
        return struct.calcsize(f"={self.entry}{self.offset}")


_TIFF, _BIG_TIFF = _Layout(4, "H", "HHI", "I"), _Layout(8, "Q", "HHQ", "Q")
_FORMS: Final = {
    b"II*\0": ("<", _TIFF),
    b"MM\0*": (">", _TIFF),
    b"II+\0\x08\0\0\0": ("<", _BIG_TIFF),
    b"MM\0+\0\x08\0\0": (">", _BIG_TIFF),
}


class Value(NamedTuple):
    """A tag's value: its TIFF type, its bytes, and their order."""

    kind: int
    raw: bytes
    order: str

    @property
    def numbers(self) -> list[float]:
        """The first few numbers; a fraction with the denominator 0 is not a number."""
        raw = self.raw[: MOST_NUMBERS * _SIZES[self.kind]]
        if self.kind in _FRACTIONS:
            pairs = struct.iter_unpack(self.order + _FRACTIONS[self.kind], raw)
            return [above / below if below else math.nan for above, below in pairs]
        form = _WHOLE.get(self.kind) or _FLOATS.get(self.kind)
        return [] if form is None else [float(each) for (each,) in struct.iter_unpack(self.order + form, raw)]

    @property
    def number(self) -> float | None:
        """The first number, if it is one."""
        numbers = self.numbers
        return numbers[0] if numbers and math.isfinite(numbers[0]) else None


class Exif:
    """The tags of a TIFF structure: of its first image, and of the directories of EXIF and GPS.

    Args:
        data: from the byte order on. Anything else has no tags.
    """

    def __init__(self, data: memoryview) -> None:
        self._data = data
        form = _FORMS.get(bytes(data[:4])) or _FORMS.get(bytes(data[:8]))
        self._order, self._layout = form or ("", _TIFF)
        self.image = self._directory(self._offset_at(self._layout.first_at))
        self.exif = self._directory(self._pointer(EXIF_DIRECTORY))
        self.gps = self._directory(self._pointer(GPS_DIRECTORY))

    def _pointer(self, tag: int) -> int | None:
        value = self.image.get(tag)
        return int(value.number) if value is not None and value.number is not None and value.number > 0 else None

    def _offset_at(self, at: int) -> int | None:
        if not self._order or at + struct.calcsize(self._layout.offset) > len(self._data):
            return None
        return int(struct.unpack_from(self._order + self._layout.offset, self._data, at)[0])

    def _directory(self, at: int | None) -> dict[int, Value]:
        return {} if at is None or not self._order else dict(self._entries(at))

    def _entries(self, at: int) -> Iterator[tuple[int, Value]]:
        data, order, layout = self._data, self._order, self._layout
        head, inside, step = struct.calcsize(layout.head), struct.calcsize(layout.offset), layout.entry_bytes
        if at + head > len(data):
            return
        count = min(struct.unpack_from(order + layout.head, data, at)[0], MOST_ENTRIES)
        seen = set()
        for start in range(at + head, min(at + head + step * count, len(data) - step + 1), step):
            tag, kind, length = struct.unpack_from(order + layout.entry, data, start)
            size = _SIZES.get(kind, 0) * length
            if tag not in WANTED or tag in seen or not 0 < size <= MOST_VALUE_BYTES:
                continue
            at_value = start + step - inside
            begin = at_value if size <= inside else struct.unpack_from(order + layout.offset, data, at_value)[0]
            if begin + size <= len(data):
                seen.add(tag)
                yield tag, Value(kind, bytes(data[begin : begin + size]), order)


WANTED: Final = frozenset(
    {
        IMAGE_DESCRIPTION, MAKE, MODEL, ARTIST, COPYRIGHT, XMP, RATING, IPTC, EXIF_DIRECTORY, GPS_DIRECTORY,
        XP_TITLE, XP_COMMENT, XP_AUTHOR, XP_KEYWORDS, EXPOSURE_TIME, F_NUMBER, ISO, FOCAL_LENGTH, LENS_MODEL,
        TAKEN, DIGITIZED, TAKEN_OFFSET, DIGITIZED_OFFSET, TAKEN_SUBSECONDS, DIGITIZED_SUBSECONDS,
        LATITUDE_REF, LATITUDE, LONGITUDE_REF, LONGITUDE, ALTITUDE_REF, ALTITUDE, GPS_TIME, GPS_DATE,
    }
)  # fmt: skip
"""The tags that are read. Those of GPS have small numbers, which no other directory uses for text."""

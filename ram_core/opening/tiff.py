"""The directories of a TIFF file, and of the raw files of cameras that are built like one (TIFF 6.0, BigTIFF)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from PIL.TiffImagePlugin import COMPRESSION_INFO, MAX_SAMPLESPERPIXEL

if TYPE_CHECKING:
    from collections.abc import Iterator

SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
MAKE, STRIP_OFFSETS, ORIENTATION, CHANNELS, PLANES = 271, 273, 274, 277, 284
TILE_OFFSETS, SUB_DIRECTORIES, SAMPLE_FORMAT, JPEG_TABLES, SUBSAMPLING = 324, 330, 339, 347, 530
DNG_VERSION = 50706

MOST_DIRECTORIES = 32
MOST_IN_CHAIN = 100_000
_MOST_ENTRIES = 4_096
_MOST_VALUES = 1 << 16
_CODES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}

BLACK_IS_ZERO, WHITE_IS_ZERO, RGB, YCBCR, SENSOR, LINEAR = 1, 0, 2, 6, 32803, 34892

# Ways to store samples that are not decoded, by their number.
_COMPRESSIONS = {
    9: "JBIG", 10: "JBIG", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34661: "JBIG",
    34712: "JPEG 2000", 34887: "LERC", 34892: "lossy JPEG of a DNG", 34933: "PNG", 34934: "JPEG XR",
    22610: "JPEG XR", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
_KINDS_OF_SAMPLES = {1: "", 2: " signed", 3: " floating-point", 5: " complex", 6: " complex"}
_PHOTOMETRICS = {
    0: "grey", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "CIELab", 9: "ICCLab",
    10: "ITULab", 32844: "LogL", 32845: "LogLuv",
}  # fmt: skip


class Directory(NamedTuple):
    """One directory of a file.

    Attributes:
        at: its offset.
        values: the numbers of each tag.
    """

    at: int
    values: dict[int, tuple[int, ...]]

    def one(self, tag: int, default: int = 0) -> int:
        """Return the first number of a tag."""
        return next(iter(self.values.get(tag, ())), default)

    @property
    def bits(self) -> tuple[int, ...]:
        """The bits of each sample of a pixel."""
        bits = self.values.get(BITS, (1,))
        return bits * self.one(CHANNELS, 1) if len(bits) == 1 and self.one(CHANNELS, 1) <= 64 else bits

    @property
    def parts(self) -> tuple[int, ...]:
        """The offsets of the strips or tiles."""
        return self.values.get(TILE_OFFSETS) or self.values.get(STRIP_OFFSETS, ())

    @property
    def is_sensor(self) -> bool:
        """Whether these are the values of a sensor and no finished picture."""
        return self.one(PHOTOMETRIC) in {SENSOR, LINEAR}


class Tiff:
    """Reads directories. Whatever the bytes are, this takes bounded time and raises nothing.

    Args:
        body: the file. Its first two bytes say the order of bytes; what they are a file of is not checked.
        start: offset of the beginning of the file in ``body``.
    """

    def __init__(self, body: bytes | memoryview, start: int = 0) -> None:
        self._body = memoryview(body)[start:]
        self._order = ">" if bytes(self._body[:2]) == b"MM" else "<"
        self._is_big = bytes(self._body[2:4]) in {b"+\x00", b"\x00+"}
        self.is_chain_broken = False
        """Whether ``chain`` ended where no directory can be read, and not as the file says that it ends."""

    @property
    def first_at(self) -> tuple[int, str]:
        """Where the offset of the first directory stands, and its format."""
        return (8, f"{self._order}Q") if self._is_big else (4, f"{self._order}I")

    def directories(self) -> Iterator[Directory]:
        """Yield the directories: each before those below it, and all of the first one's before the second."""
        start, code = self.first_at
        waiting, seen = [self._number(start, code)], set[int]()
        while waiting and len(seen) < MOST_DIRECTORIES:
            at = waiting.pop(0)
            if at in seen or at < start:
                continue
            seen.add(at)
            found = self._read(at)
            if found is None:
                continue
            directory, following = found
            yield directory
            waiting = [*directory.values.get(SUB_DIRECTORIES, ())[:MOST_DIRECTORIES], following, *waiting]

    def chain(self) -> Iterator[tuple[int, int, int]]:
        """Yield the directories of pictures one after the other, without those below them, at most ``MOST_IN_CHAIN``.

        Each as its offset and what its tags ``SUBFILE`` and ``OLD_SUBFILE`` say; 0: nothing. ``is_chain_broken`` says
        afterwards whether there may be more directories, which cannot be read.
        """
        start, code = self.first_at
        head, size, entry = ("Q", 8, "HHQ8s") if self._is_big else ("H", 2, "HHI4s")
        layout = struct.Struct(self._order + entry)
        at, seen = self._number(start, code), set[int]()
        # Until an offset of 0 says that this was the last one. A directory that was there before is damage, too.
        self.is_chain_broken = True
        while at >= start and at not in seen and len(seen) < MOST_IN_CHAIN:
            seen.add(at)
            count, begin = self._number(at, self._order + head), at + size
            end = begin + count * layout.size
            if not 0 < count <= _MOST_ENTRIES or end > len(self._body):
                return
            kinds, tags = {SUBFILE: 0, OLD_SUBFILE: 0}, set()
            for tag, kind, _, inside in layout.iter_unpack(self._body[begin:end]):
                tags.add(tag)
                if tag in kinds and kind in _CODES:
                    kinds[tag] = int(struct.unpack_from(self._order + _CODES[kind], inside)[0])
            if WIDTH in tags and HEIGHT in tags:
                yield at, kinds[SUBFILE], kinds[OLD_SUBFILE]
            if end + struct.calcsize(code) > len(self._body):
                return
            at = self._number(end, code)
        self.is_chain_broken = at != 0

    def _number(self, at: int, code: str) -> int:
        try:
            return int(struct.unpack_from(code, self._body, at)[0])
        except struct.error:
            return 0

    def _read(self, at: int) -> tuple[Directory, int] | None:
        """Return a directory, and the offset of the next one."""
        head, size, entry = ("Q", 8, "HHQ8s") if self._is_big else ("H", 2, "HHI4s")
        count = self._number(at, self._order + head)
        layout = struct.Struct(self._order + entry)
        if not 0 < count <= _MOST_ENTRIES or at + size + count * layout.size > len(self._body):
            return None
        values = {}
        for number in range(count):
            tag, kind, length, inside = layout.unpack_from(self._body, at + size + number * layout.size)
            if kind in _CODES and 0 < length <= _MOST_VALUES:
                values[tag] = self._values(kind, length, inside)
        return Directory(at, values), self._number(at + size + count * layout.size, self.first_at[1])

    def _values(self, kind: int, length: int, inside: bytes) -> tuple[int, ...]:
        code = struct.Struct(f"{self._order}{length}{_CODES[kind]}")
        try:
            if code.size <= len(inside):
                return code.unpack_from(inside)
            return code.unpack_from(self._body, self._number_of(inside))
        except struct.error:
            return ()

    def _number_of(self, inside: bytes) -> int:
        return int.from_bytes(inside, "big" if self._order == ">" else "little")


def why_unsupported(body: bytes | memoryview, *, is_known: bool) -> str | None:
    """Return what kind of TIFF this is if its first picture is not decoded, or would be decoded wrongly.

    Args:
        body: the file. Of one that seems to be cut off or damaged nothing is said.
        is_known: whether Pillow has a mode for its samples.
    """
    first = next(Tiff(body).directories(), None)
    if first is None or not (first.one(WIDTH) and first.one(HEIGHT) and first.bits and first.parts):
        return None
    if max(first.parts) >= len(body):
        return None
    reason = "a big-endian BigTIFF" if bytes(body[:4]) == b"MM\x00+" else _why_wrong(first)
    if reason or (is_known and first.one(CHANNELS, 1) <= MAX_SAMPLESPERPIXEL):
        return reason
    channels, kind = first.one(CHANNELS, 1), _KINDS_OF_SAMPLES.get(first.one(SAMPLE_FORMAT, 1), "")
    meaning = _PHOTOMETRICS.get(first.one(PHOTOMETRIC), f"photometric {first.one(PHOTOMETRIC)}")
    samples = f"{channels}{kind} sample{'s' * (channels != 1)} of {max(first.bits)} bits"
    return f"a TIFF with {samples} per pixel ({meaning})"


def _why_wrong(first: Directory) -> str | None:
    """Return what kind of TIFF this is if Pillow has no decoder for it, or does not notice how samples are stored."""
    compression, bits = first.one(COMPRESSION, 1), first.bits
    if compression not in COMPRESSION_INFO:
        return f"a TIFF compressed as {_COMPRESSIONS.get(compression, f'number {compression}')}"
    if compression == 1 and first.one(PLANES, 1) == 2 and max(bits) > 8 and len(bits) > 1:
        return f"a TIFF with {max(bits)} bits per sample in separate planes"
    if compression == 1 and first.one(PHOTOMETRIC) == YCBCR and first.values.get(SUBSAMPLING, (2, 2)) != (1, 1):
        return "a TIFF with subsampled YCbCr without compression"
    return None

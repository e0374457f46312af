"""An archive of any size that lies nowhere: pictures are made from their keys when they are fetched."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from storage.objects.base import PAGE_SIZE, Fetched, ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from storage.objects.ignoring import Ignoring

SIDE = 8
VERSION = "1"


def body_of(key: str) -> bytes:
    """A small PNG, grey, whose pixels are those of no other number."""
    number = int(key.partition(".")[0])
    row = b"\0" + struct.pack(">Q", number * 0x9E3779B97F4A7C15 % 2**64)  # spread over all eight pixels
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * SIDE, 1)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


class MadeUpStore:
    """See ``storage.objects.base.ObjectStore``."""

    def __init__(self, count: int) -> None:
        self.count = count

    def check(self) -> None:
        """It is always there."""

    def pages(self, prefix: str, after: str | None, ignoring: Ignoring | None = None) -> Iterator[list[ObjectInfo]]:
        """Give all keys behind ``after``; prefixes mean nothing here, and nothing is left out."""
        first = 0 if after is None else int(after.partition(".")[0]) + 1
        for begin in range(first, self.count, PAGE_SIZE):
            numbers = range(begin, min(begin + PAGE_SIZE, self.count))
            yield [ObjectInfo(f"{number:09}.png", VERSION, 80, None) for number in numbers]

    def read_rules(self, ignoring: Ignoring, keys: Sequence[str]) -> None:
        """Nothing is left out."""

    def stat(self, key: str) -> ObjectInfo:
        """Say what a listing would."""
        return ObjectInfo(key, VERSION, 80, None)

    def fetch(self, key: str, version: str, max_bytes: int) -> Fetched:
        """Make the picture of a key."""
        return Fetched(body_of(key), VERSION)

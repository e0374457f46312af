"""Tar files for tests: written by Python or by hand, and what a real reader finds in them."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

from storage.objects.base import S3Options
from storage.objects.ignoring import Ignoring, Selection
from storage.objects.source import open_store, parse_source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from storage.objects.base import ObjectInfo
    from storage.objects.tars import TarStore

BLOCK = 512
END = bytes(2 * BLOCK)
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def packed(members: Mapping[str, bytes], format_: str = "pax", mtime: int = 1_700_000_000) -> bytes:
    """A tar with these members, in this order."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=FORMATS[format_]) as file:
        for name, body in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(body), mtime
            file.addfile(member, io.BytesIO(body))
    return written.getvalue()


def header(name: bytes, size: bytes | int, kind: bytes = b"0", **fields: bytes) -> bytes:
    """One header with the right sum, whatever is in it. A number becomes octal digits."""
    block = bytearray(BLOCK)
    block[: len(name)] = name
    block[100:108], block[136:148] = b"0000644\0", b"14524560400\0"
    block[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    block[156:157], block[257:265] = kind, b"ustar\x0000"
    for at, value in fields.items():
        block[int(at[1:]) : int(at[1:]) + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def filled(body: bytes) -> bytes:
    """A body as it is in a tar: in whole blocks."""
    return body + bytes(-len(body) % BLOCK)


def pax(**records: str) -> bytes:
    """The header of pax with these records, and its body."""
    body = b""
    for key, value in records.items():
        rest = f" {key.replace('__', '.')}={value}\n".encode()
        length = len(rest) + len(str(len(rest)))
        length += len(str(length)) - len(str(len(rest)))
        body += b"%d" % length + rest
    return header(b"PaxHeaders/x", len(body), b"x") + filled(body)


def store_of(folder: Path) -> TarStore:
    """The members of the tar files in a folder."""
    return open_store(parse_source(f"tar+{folder}"), S3Options())  # type: ignore[return-value]  # tar+ is always that


def listed(
    store: TarStore, prefix: str = "", after: str | None = None, selection: Selection | None = None
) -> list[ObjectInfo]:
    """What a job would list."""
    ignoring = Ignoring(selection or Selection(), "tar", prefix) if selection is not None else None
    return [info for page in store.pages(prefix, after, ignoring) for info in page]

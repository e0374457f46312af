"""What stands in BigTIFF, in XMP that is too long for one segment, and in files of XMP alone."""

from __future__ import annotations

import hashlib
import io
import struct

import numpy as np
import pytest
import tifffile

from ram_core import metadata
from tests.told_by_files import exif, jpeg, xmp

KEYWORDS = [f"keyword number {number}" for number in range(150)]


def in_two(body: bytes, more: bytes, *, digest: bytes | None = None, size: int = 3000) -> bytes:
    """A JPEG with an extended packet, in segments, the last one first."""
    name = hashlib.md5(more, usedforsecurity=False).hexdigest().upper().encode() if digest is None else digest
    segments = []
    for at in range(0, len(more), size):
        part = b"http://ns.adobe.com/xmp/extension/\0" + name + struct.pack(">II", len(more), at) + more[at : at + size]
        segments.append(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part)
    return body[:2] + b"".join(reversed(segments)) + body[2:]


def main_packet(digest: str) -> bytes:
    note = f'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{digest}"'
    return xmp({"xmp:Rating": "4"}).replace(b'rdf:about=""', b'rdf:about="" ' + note.encode(), 1)


def test_a_packet_in_several_segments_is_read() -> None:
    more = xmp({"dc:subject": KEYWORDS, "xmp:Rating": "1"})
    digest = hashlib.md5(more, usedforsecurity=False).hexdigest().upper()
    facts = metadata.read(in_two(jpeg(None, main_packet(digest)), more))
    assert facts.keywords == tuple(KEYWORDS)
    assert facts.rating == 4


def test_another_digest_or_a_missing_part_is_not_read() -> None:
    more = xmp({"dc:subject": KEYWORDS})
    digest = hashlib.md5(more, usedforsecurity=False).hexdigest().upper()
    assert metadata.read(in_two(jpeg(None, main_packet("0" * 32)), more)).keywords == ()
    body = in_two(jpeg(None, main_packet(digest)), more)
    damaged = body.replace(struct.pack(">II", len(more), 3000), struct.pack(">II", len(more), 3001))
    assert metadata.read(damaged).keywords == ()
    assert metadata.read(damaged).rating == 4


@pytest.mark.parametrize("order", ["<", ">"])
def test_bigtiff_says_what_tiff_does(order: str) -> None:
    pixels = [[0, 1], [2, 3]]
    texts = [
        (271, "s", 0, "NIKON CORPORATION", True),
        (272, "s", 0, "NIKON D90", True),
        (700, "B", len(packet := xmp({"dc:subject": ["Dom"]})), packet, True),
        (18246, "H", 1, 3, True),
    ]
    bodies = []
    for is_big in (False, True):
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer, bigtiff=is_big, byteorder=order) as file:
            file.write(np.array(pixels, "u1"), extratags=texts)
        bodies.append(buffer.getvalue())
    plain, big = map(metadata.read, bodies)
    assert big == plain
    assert (big.camera_model, big.keywords, big.rating) == ("NIKON D90", ("Dom",), 3)


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"<?xml version='1.0'?>\n", b"<!-- a --> <!-- b -->"])
def test_a_file_of_xmp_alone_is_read(before: bytes) -> None:
    assert metadata.read(before + xmp({"xmp:Rating": "2"})).rating == 2


def test_many_comments_take_no_time() -> None:
    assert metadata.read(b"<!-- -->" * 5_000 + b"<html>").rating is None


def test_exif_of_a_jpeg_is_read_as_before() -> None:
    assert metadata.read(jpeg(exif())).camera_model == "NIKON D90"

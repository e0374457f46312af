"""Raw files of cameras, made on the spot. Pictures are where makers put them; the sensor's data are noise."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from tests import poison

WIDTH, HEIGHT = 600, 400
"""Of the largest picture in each file, as the sensor lies."""

Value = int | str | bytes | Sequence[int]
SHORT, LONG, ASCII, BYTES = 3, 4, 2, 7


def scene(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Return a picture with four colours and enough detail for a JPEG of some size."""
    return poison.scene(width, height)


def jpeg(width: int = WIDTH, height: int = HEIGHT, **options: Any) -> bytes:
    """Return a JPEG of the scene."""
    return poison.encoded(scene(width, height), "JPEG", quality=92, **options)


def thumbnail() -> bytes:
    """Return the small JPEG that every camera writes: another picture, so that it is noticed if it is taken."""
    return poison.encoded(Image.new("RGB", (160, 120), (255, 0, 255)), "JPEG")


def sensor_data(count: int = 20_000) -> bytes:
    """Return noise with some bytes that look like the beginning of a JPEG."""
    noise = random.Random(3).randbytes(count)
    return noise[: count // 2] + b"\xff\xd8\xff\xe0" + noise[count // 2 :]


def lossless_jpeg() -> bytes:
    """Return the header of what CR2 and DNG keep the sensor's data in: larger than every picture in the file."""
    frame = struct.pack(">BBHBHHB", 0xFF, 0xC3, 14, 14, 4000, 6000, 2) + bytes(6)
    return b"\xff\xd8" + frame + b"\xff\xda\x00\x08" + bytes(6) + sensor_data(4_000) + b"\xff\xd9"


class TiffWriter:
    """Writes directories and what they point at. Offsets are known when a part is added."""

    def __init__(self, magic: bytes = b"II*\x00", room: int = 8) -> None:
        self.body = bytearray(magic + bytes(room - len(magic)))

    def add(self, content: bytes) -> int:
        """Append bytes and return their offset."""
        self.body += bytes(len(self.body) % 2)
        at = len(self.body)
        self.body += content
        return at

    def directory(self, entries: dict[int, tuple[int, Value]], following: int = 0) -> int:
        """Append a directory and return its offset."""
        packed = []
        for tag, (kind, value) in sorted(entries.items()):
            content, count = _content(kind, value)
            inside = content.ljust(4, b"\x00") if len(content) <= 4 else struct.pack("<I", self.add(content))
            packed.append(struct.pack("<HHI4s", tag, kind, count, inside))
        return self.add(struct.pack("<H", len(packed)) + b"".join(packed) + struct.pack("<I", following))

    def done(self, first: int, at: int = 4) -> bytes:
        """Return the file, with this first directory."""
        self.body[at : at + 4] = struct.pack("<I", first)
        return bytes(self.body)


def _content(kind: int, value: Value) -> tuple[bytes, int]:
    if isinstance(value, str):
        return value.encode() + b"\x00", len(value) + 1
    if isinstance(value, bytes):
        return value, len(value)
    values = [value] if isinstance(value, int) else list(value)
    return struct.pack(f"<{len(values)}{'H' if kind == SHORT else 'I'}", *values), len(values)


def _sensor(file: TiffWriter, photometric: int = 32803, compression: int = 1) -> int:
    data = sensor_data()
    return file.directory({
        254: (LONG, 0), 256: (LONG, 6000), 257: (LONG, 4000), 258: (SHORT, 16), 259: (SHORT, compression),
        262: (SHORT, photometric), 273: (LONG, file.add(data)), 277: (SHORT, 1), 278: (LONG, 4000),
        279: (LONG, len(data)),
    })  # fmt: skip


def _preview(file: TiffWriter, body: bytes) -> int:
    at = file.add(body)
    return file.directory({254: (LONG, 1), 259: (SHORT, 6), 513: (LONG, at), 514: (LONG, len(body))})


def _thumbnail(file: TiffWriter) -> dict[int, tuple[int, Value]]:
    pixels = Image.new("RGB", (160, 120), (255, 0, 255)).tobytes()
    return {
        254: (LONG, 1), 256: (LONG, 160), 257: (LONG, 120), 258: (SHORT, (8, 8, 8)), 259: (SHORT, 1), 262: (SHORT, 2),
        273: (LONG, file.add(pixels)), 277: (SHORT, 3), 278: (LONG, 120), 279: (LONG, len(pixels)),
    }  # fmt: skip


def tiff_based(make: str, orientation: int = 1, picture: bytes | None = None, **first: Any) -> bytes:
    """Return a file as NEF, ARW and SRW are built: a thumbnail, and below it a JPEG and the sensor's data."""
    file = TiffWriter()
    below = [_preview(file, jpeg() if picture is None else picture), _sensor(file)]
    extra = {int(tag.removeprefix("tag")): value for tag, value in first.items()}
    entries = _thumbnail(file) | {271: (ASCII, make), 274: (SHORT, orientation), 330: (LONG, below)}
    return file.done(file.directory(entries | extra))


def dng(orientation: int = 1, picture: bytes | None = None) -> bytes:
    """Return a DNG with a thumbnail, a JPEG and the sensor's data."""
    return tiff_based("SomePhone", orientation, picture, tag50706=(1, b"\x01\x04\x00\x00"))


def finished_dng(orientation: int = 1) -> bytes:
    """Return a DNG whose own raster is a finished picture, in several strips, without a JPEG."""
    file = TiffWriter()
    rows = np.asarray(scene())
    strips = [rows[start : start + 100].tobytes() for start in range(0, HEIGHT, 100)]
    offsets = [file.add(strip) for strip in strips]
    raster = file.directory({
        254: (LONG, 0), 256: (LONG, WIDTH), 257: (LONG, HEIGHT), 258: (SHORT, (8, 8, 8)), 259: (SHORT, 1),
        262: (SHORT, 2), 273: (LONG, offsets), 277: (SHORT, 3), 278: (LONG, 100),
        279: (LONG, [len(strip) for strip in strips]),
    })  # fmt: skip
    first = _thumbnail(file) | {
        274: (SHORT, orientation), 330: (LONG, [raster, _sensor(file)]), 50706: (1, b"\x01\x04\x00\x00")
    }  # fmt: skip
    return file.done(file.directory(first))


def tiled_dng() -> bytes:
    """Return a DNG whose sensor data are lossy JPEG tiles of 512 x 512, larger than its only preview."""
    file = TiffWriter()
    tile = jpeg(512, 512)
    offsets = [file.add(tile) for _ in range(4)]
    raw = file.directory({
        254: (LONG, 0), 256: (LONG, 1024), 257: (LONG, 1024), 258: (SHORT, (8, 8, 8)), 259: (SHORT, 34892),
        262: (SHORT, 34892), 277: (SHORT, 3), 322: (LONG, 512), 323: (LONG, 512), 324: (LONG, offsets),
        325: (LONG, [len(tile)] * 4),
    })  # fmt: skip
    preview = _preview(file, jpeg(450, 300))
    first = _thumbnail(file) | {330: (LONG, [raw, preview]), 50706: (1, b"\x01\x04\x00\x00")}
    return file.done(file.directory(first))


def cr2(orientation: int = 1) -> bytes:
    """Return a CR2: the picture in the first directory, a thumbnail, and the sensor's data as a lossless JPEG."""
    file = TiffWriter(b"II*\x00\x00\x00\x00\x00CR\x02\x00", 16)
    raw, small, large = lossless_jpeg(), thumbnail(), jpeg()
    sensor = file.directory({259: (SHORT, 6), 273: (LONG, file.add(raw)), 279: (LONG, len(raw))})
    second = file.directory({513: (LONG, file.add(small)), 514: (LONG, len(small))}, sensor)
    first = {
        256: (SHORT, WIDTH), 257: (SHORT, HEIGHT), 258: (SHORT, (8, 8, 8)), 259: (SHORT, 6), 271: (ASCII, "Canon"),
        273: (LONG, file.add(large)), 274: (SHORT, orientation), 279: (LONG, len(large)),
    }  # fmt: skip
    return file.done(file.directory(first, second))


def orf(orientation: int = 1) -> bytes:
    """Return an ORF, whose picture only the maker's own notes point at."""
    file = TiffWriter(b"IIRO")
    file.add(jpeg())
    first = {271: (ASCII, "OLYMPUS CORPORATION"), 274: (SHORT, orientation), 273: (LONG, file.add(sensor_data()))}
    return file.done(file.directory(first))


def rw2(orientation: int = 1) -> bytes:
    """Return an RW2 with its picture in the tag JpgFromRaw."""
    file = TiffWriter(b"IIU\x00", 24)
    first = {0x2E: (BYTES, jpeg()), 271: (ASCII, "Panasonic"), 274: (SHORT, orientation)}
    return file.done(file.directory(first))


def pef(orientation: int = 1) -> bytes:
    """Return a PEF: the sensor's data in the first directory."""
    file = TiffWriter()
    file.add(jpeg())
    data = sensor_data()
    first = {
        256: (LONG, 6000), 257: (LONG, 4000), 258: (SHORT, 16), 259: (LONG, 65535), 262: (SHORT, 32803),
        271: (ASCII, "PENTAX Corporation"), 273: (LONG, file.add(data)), 274: (SHORT, orientation),
        279: (LONG, len(data)),
    }  # fmt: skip
    return file.done(file.directory(first))


def raf(orientation: int = 1) -> bytes:
    """Return an RAF: its picture says itself how the camera was held."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = jpeg(exif=exif)
    head = b"FUJIFILMCCD-RAW 0201FF000000X-SOME".ljust(84, b"\x00") + struct.pack(">II", 160, len(picture))
    return head.ljust(160, b"\x00") + picture + sensor_data()


def box(kind: bytes, content: bytes) -> bytes:
    """Return a box of the ISO base media file format."""
    return struct.pack(">I", 8 + len(content)) + kind + content


def cr3(orientation: int = 1) -> bytes:
    """Return a CR3: boxes, of which one is a directory and the last one has the picture and the sensor's data."""
    file = TiffWriter()
    directory = file.done(file.directory({271: (ASCII, "Canon"), 274: (SHORT, orientation)}))
    canon = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48") + box(b"CMT1", directory) + box(b"THMB", thumbnail())
    return (
        box(b"ftyp", b"crx \x00\x00\x00\x01crx isom")
        + box(b"moov", box(b"uuid", canon))
        + box(b"mdat", jpeg() + sensor_data())
    )


def x3f(orientation: int = 1) -> bytes:
    """Return an X3F. It has the rotation in degrees."""
    degrees = {1: 0, 6: 90, 3: 180, 8: 270}[orientation]
    head = b"FOVb" + struct.pack("<I16xIIII", 0x20003, 0, 6000, 4000, degrees)
    return head.ljust(104, b"\x00") + sensor_data() + jpeg() + thumbnail()


FILES: dict[str, Callable[[int], bytes]] = {
    "ARW": lambda orientation: tiff_based("SONY", orientation),
    "CR2": cr2,
    "CR3": cr3,
    "DNG": dng,
    "NEF": lambda orientation: tiff_based("NIKON CORPORATION", orientation),
    "ORF": orf,
    "PEF": pef,
    "RAF": raf,
    "RW2": rw2,
    "SRW": lambda orientation: tiff_based("SAMSUNG", orientation),
    "X3F": x3f,
}
"""Makes a file of each format with this orientation."""


def strips_of_jpeg(orientation: int = 1) -> bytes:
    """Return a NEF whose picture is a TIFF of several JPEG strips with common tables."""
    buffer = io.BytesIO()
    scene().save(buffer, "TIFF", compression="jpeg", strip_size=WIDTH * 3 * 64)
    file = TiffWriter(buffer.getvalue(), len(buffer.getvalue()))
    [raster] = struct.unpack_from("<I", file.body, 4)
    first = _thumbnail(file) | {
        271: (ASCII, "NIKON"), 274: (SHORT, orientation), 330: (LONG, [raster, _sensor(file)])
    }  # fmt: skip
    return file.done(file.directory(first))

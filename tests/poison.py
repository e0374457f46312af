"""Bad and odd pictures, made on the spot: what a large archive holds beside the photographs.

``python tests/poison.py FOLDER`` writes them all, each as ``NAME.jpg`` (extensions say nothing, so none is right).
"""

from __future__ import annotations

import io
import random
import struct
import sys
import zipfile
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401  (teaches Pillow to write JPEG XL)
from PIL import Image, ImageCms

from tests import scans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pillow_heif.register_heif_opener()

WIDTH, HEIGHT = 90, 60
"""Of the scene that most of the odd pictures show."""

QUADRANTS = ((220, 30, 30), (30, 200, 30), (30, 30, 220), (230, 230, 30))
"""Colours of the scene: top left, top right, bottom left, bottom right."""

_ORIENTATION = 0x0112
_PIXELS_OF_SCENE = {  # how a camera that was turned wrote the scene, by its EXIF orientation
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True, slots=True)
class Bad:
    """A file that must end as a failure.

    Attributes:
        name: of the file, without an extension.
        body: its bytes.
        codes: the classes of failure that are right for it.
    """

    name: str
    body: bytes
    codes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Odd:
    """A file that must be read although it is unusual, and the size people see."""

    name: str
    body: bytes
    width: int = WIDTH
    height: int = HEIGHT


def scene(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Four quadrants of different colours, so that every way of turning it shows."""
    picture = Image.new("RGB", (width, height))
    half_width, half_height = max(1, width // 2), max(1, height // 2)
    for number, colour in enumerate(QUADRANTS):
        left, top = (number % 2) * half_width, (number // 2) * half_height
        picture.paste(colour, (left, top, width if number % 2 else half_width, height if number > 1 else half_height))
    return picture


def detailed(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth structure and some noise, as in a photograph."""
    noise = np.random.default_rng(seed)
    coarse = Image.fromarray(noise.integers(0, 256, (height // 48 + 2, width // 48 + 2, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = noise.integers(-12, 13, (height, width, 3))
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the file that Pillow makes of a picture."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def heic(picture: Image.Image, **options: Any) -> bytes:
    """Return the HEIC of a picture."""
    return encoded(picture, "HEIF", **{"quality": 90, **options})


def jpeg_xl(picture: Image.Image, **options: Any) -> bytes:
    """Return the JPEG XL of a picture."""
    return encoded(picture, "JXL", **options)


def turned(orientation: int) -> bytes:
    """Return the scene as a camera writes it that was held so; upright it is ``WIDTH`` x ``HEIGHT``."""
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    turn = _PIXELS_OF_SCENE[orientation]
    picture = scene() if turn is None else scene().transpose(turn)
    return encoded(picture, "JPEG", quality=95, exif=exif)


def png_header(width: int, height: int, *, depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG that claims a size and has next to no pixels: a decompression bomb without its weight."""
    return png(
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(1000))),
        (b"IEND", b""),
    )


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG file of these chunks, with right lengths and checksums."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, content in chunks:
        parts.append(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
    return b"".join(parts)


def with_chunk(body: bytes, kind: bytes, content: bytes) -> bytes:
    """Return a PNG with one more chunk behind its header."""
    header_end = 8 + 25
    chunk = png((kind, content))[8:]
    return body[:header_end] + chunk + body[header_end:]


def with_segment(body: bytes, marker: int, content: bytes) -> bytes:
    """Return a JPEG with one more segment at its beginning."""
    return body[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + body[2:]


@cache
def cuttable() -> dict[str, bytes]:
    """Return whole pictures by format, each large enough that its pixels make up nearly all of the file."""
    picture = detailed(320, 240)
    return {
        "jpeg": encoded(picture, "JPEG", quality=90),
        "progressive": encoded(picture, "JPEG", quality=90, progressive=True),
        "png": encoded(picture, "PNG"),
        "gif": encoded(picture.quantize(method=Image.Quantize.FASTOCTREE), "GIF"),
        "webp": encoded(picture, "WEBP", quality=90),
        "webp-lossless": encoded(picture, "WEBP", lossless=True),
        "bmp": encoded(picture, "BMP"),
        "tiff": encoded(picture, "TIFF"),
        "tiff-lzw": encoded(picture, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": encoded(picture, "TIFF", compression="jpeg"),
        "avif": encoded(picture, "AVIF", speed=10),  # by default it takes longer than all the others
        "ppm": encoded(picture, "PPM"),
        "heic": heic(picture),
        "jpeg-xl": jpeg_xl(picture),
    }


def bad() -> Iterator[Bad]:
    """Yield files that are no pictures, or that must not or cannot be decoded."""
    for name, body in _no_pictures().items():
        yield Bad(name, body, frozenset({"not_an_image"}))
    for name, body in _unsupported().items():
        yield Bad(name, body, frozenset({"unsupported"}))
    yield Bad("empty", b"", frozenset({"empty"}))
    for name, body in _bombs().items():
        yield Bad(name, body, frozenset({"too_large"}))
    for kind, body in cuttable().items():
        for share in (0.3, 0.7):
            yield Bad(f"{kind}-cut-at-{share}", body[: int(len(body) * share)], frozenset({"truncated", "corrupt"}))
    for name, body in _damaged().items():
        yield Bad(name, body, frozenset({"truncated", "corrupt"}))


def odd() -> Iterator[Odd]:
    """Yield unusual pictures that must be read."""
    for orientation in _PIXELS_OF_SCENE:
        yield Odd(f"orientation-{orientation}", turned(orientation))
    for name, body in _modes().items():
        yield Odd(name, body)
    for name, body in _many_frames().items():
        yield Odd(name, body)
    for name, body in _extras().items():
        yield Odd(name, body)
    yield Odd("heic", heic(scene()))
    yield Odd("jpeg-xl", jpeg_xl(scene()))
    yield Odd("one-pixel", encoded(scene(1, 1), "PNG"), 1, 1)
    yield Odd("tall", encoded(scene(1, 60_000), "PNG"), 1, 60_000)
    yield Odd("wide", encoded(scene(60_000, 1), "JPEG"), 60_000, 1)


def _no_pictures() -> dict[str, bytes]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "text")
    return {
        "text": b"this is no picture at all\n" * 20,
        "html": b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>gone</body></html>",
        "json": b'{"error": "not found"}',
        "s3-error": b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
        "zip": archive.getvalue(),
        "random": random.Random(1).randbytes(10_000),
        "zeros": bytes(4096),
        "one-byte": b"\xff",
        "elf": b"\x7fELF\x02\x01\x01" + bytes(100),
    }


def _unsupported() -> dict[str, bytes]:
    body = bytes(64)
    return {
        "svg": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><rect width="1" height="1"/></svg>',
        "pdf": scans.encrypted_pdf(),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        "camera-raw": struct.pack(">I", 24) + b"ftypcrx \x00\x00\x00\x01crx isom" + body,
        "old-camera-raw": b"II\x1a\x00\x00\x00HEAPCCDR" + body,
        "jpeg-2000": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + body,
        "film": struct.pack(">I", 24) + b"ftypisom\x00\x00\x02\x00isomavc1" + body,
        "webm": b"\x1aE\xdf\xa3\x9fB\x86\x81\x01" + body,
        "icon": encoded(scene(), "ICO"),
        "photoshop": b"8BPS\x00\x01" + body,
    }


def _bombs() -> dict[str, bytes]:
    jpeg = bytearray(encoded(scene(), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    gif = bytearray(encoded(scene().convert("P"), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_000, 65_000)
    bitmap = bytearray(encoded(scene(), "BMP"))
    bitmap[18:26] = struct.pack("<ii", 40_000, 40_000)
    return {
        "png-bomb": png_header(40_000, 40_000),
        "png-bomb-of-16-bits": png_header(2**31 - 1, 2**31 - 1, depth=16, colour=6),
        "jpeg-bomb": bytes(jpeg),
        "gif-bomb": bytes(gif),
        "bmp-bomb": bytes(bitmap),
    }


def _damaged() -> dict[str, bytes]:
    whole = cuttable()
    wrong_checksum = bytearray(whole["png"])
    wrong_checksum[8 + 8 + 13] ^= 0xFF  # of the header
    bomb = b"k\x00\x00" + zlib.compress(bytes(100_000_000), level=1)
    return {
        "png-without-pixels": png_header(2000, 2000),
        "png-with-a-wrong-checksum": bytes(wrong_checksum),
        "png-of-no-width": png_header(0, 100),
        "jpeg-of-three-bytes": b"\xff\xd8\xff",
        "jpeg-that-is-only-a-header": whole["jpeg"][:200],
        "riff-of-nothing": b"RIFF\x10\x00\x00\x00WEBPVP8 ",
        "tiff-of-nothing": b"II*\x00\xff\xff\xff\x7f",
        "text-bomb": with_chunk(encoded(scene(), "PNG"), b"zTXt", bomb),
        "icc-bomb": with_chunk(encoded(scene(), "PNG"), b"iCCP", bomb),
        "heic-of-nothing": struct.pack(">I", 24) + b"ftypheic\x00\x00\x00\x00mif1heic" + bytes(64),
        "heic-of-mif1-of-nothing": struct.pack(">I", 24) + b"ftypmif1\x00\x00\x00\x00mif1heic" + bytes(64),
        "jpeg-xl-of-nothing": b"\xff\x0a" + bytes(64),
        "jpeg-xl-boxed-of-nothing": b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(64),
        "avif-of-nothing": struct.pack(">I", 24) + b"ftypavif\x00\x00\x00\x00mif1avif" + bytes(64),
    }


def _modes() -> dict[str, bytes]:
    rgb = scene()
    palette = rgb.convert("P", palette=Image.Palette.ADAPTIVE)
    grey = np.asarray(rgb.convert("L"), dtype=np.uint16) * 257
    alpha = Image.new("L", rgb.size, 128)
    with_alpha, grey_with_alpha = rgb.convert("RGBA"), rgb.convert("LA")
    with_alpha.putalpha(alpha)
    grey_with_alpha.putalpha(alpha)
    return {
        "cmyk": encoded(rgb.convert("CMYK"), "JPEG", quality=95),  # Pillow writes it inverted, as Adobe does
        "cmyk-tiff": encoded(rgb.convert("CMYK"), "TIFF"),
        "grey": encoded(rgb.convert("L"), "JPEG"),
        "grey-16": encoded(Image.fromarray(grey), "PNG"),
        "grey-16-tiff": encoded(Image.fromarray(grey), "TIFF"),
        "float-tiff": encoded(Image.fromarray(grey.astype(np.float32) / 65_535), "TIFF"),
        "palette": encoded(palette, "PNG"),
        "palette-transparent": encoded(palette, "PNG", transparency=0),
        "palette-translucent": encoded(palette, "PNG", transparency=bytes(range(256))),
        "rgb-transparent": encoded(rgb, "PNG", transparency=QUADRANTS[0]),
        "grey-alpha": encoded(grey_with_alpha, "PNG"),
        "rgba": encoded(with_alpha, "PNG"),
        "rgba-webp": encoded(with_alpha, "WEBP", lossless=True),
        "one-bit": encoded(rgb.convert("1"), "PNG"),
        "one-bit-tiff": encoded(rgb.convert("1"), "TIFF", compression="group4"),
        "ycbcr-tiff": encoded(rgb, "TIFF", compression="jpeg"),
        "lab-tiff": encoded(_lab(rgb), "TIFF"),
    }


def _lab(picture: Image.Image) -> Image.Image:
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    converted = ImageCms.applyTransform(picture, transform)
    assert converted is not None
    return converted


def _many_frames() -> dict[str, bytes]:
    first, others = scene(), [Image.new("RGB", (WIDTH, HEIGHT), grey) for grey in ("black", "white")]
    several: dict[str, Any] = {"save_all": True, "append_images": others}
    return {
        "animated-gif": encoded(first, "GIF", **several, duration=50),
        "animated-webp": encoded(first, "WEBP", **several, lossless=True),
        "animated-png": encoded(first, "PNG", **several, default_image=False),
        "several-pages": encoded(first, "TIFF", **several),
        "several-shots": encoded(first, "MPO", **several),
    }


def _extras() -> dict[str, bytes]:
    jpeg = encoded(scene(), "JPEG", quality=95)
    return {
        "damaged-exif": with_segment(jpeg, 0xE1, b"Exif\x00\x00II*\x00\xff\xff\xff\xff" + bytes(20)),
        "exif-that-is-none": with_segment(jpeg, 0xE1, b"Exif\x00\x00" + b"\xff" * 64),
        "orientation-that-is-none": with_segment(jpeg, 0xE1, b"Exif\x00\x00" + _exif_of(99)),
        "orientation-of-zero": with_segment(jpeg, 0xE1, b"Exif\x00\x00" + _exif_of(0)),
        "damaged-icc": with_segment(jpeg, 0xE2, b"ICC_PROFILE\x00\x01\x01" + b"\xff" * 200),
        "rubbish-behind-the-end": jpeg + random.Random(2).randbytes(5000),
        "large-comment": with_segment(jpeg, 0xFE, b"x" * 65_000),
    }


def _exif_of(orientation: int) -> bytes:
    return b"II*\x00" + struct.pack("<IHHHIHHI", 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)


def write_all(folder: Path) -> dict[str, Bad | Odd]:
    """Write every file into ``folder``; return them by file name."""
    yields: tuple[Callable[[], Iterator[Bad | Odd]], ...] = (bad, odd)
    files = {f"{one.name}.jpg": one for of_kind in yields for one in of_kind()}
    for name, one in files.items():
        (folder / name).write_bytes(one.body)
    return files


if __name__ == "__main__":
    sys.stdout.write(f"{len(write_all(Path(sys.argv[1])))} files\n")

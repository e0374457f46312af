"""Camera raw is read by its largest embedded picture, and never by a thumbnail."""

from __future__ import annotations

import io
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from ram_core.opening import jpeg, raw, tiff
from ram_core.transforms import ReadingTransform, SquashTransform
from tests import cameras, poison
from workers.pipeline.decode import decode
from workers.pipeline.retry import CorruptImageError, TruncatedImageError, UndecodableError, UnsupportedImageError

MAX_PIXELS = 100_000_000
SMALL = SquashTransform(64)
ROOT = Path(__file__).parents[2]


def near(found: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.abs(found.astype(int) - wanted).mean() < 2)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("name", cameras.FILES)
def test_a_raw_file_shows_its_largest_picture_upright(name: str, orientation: int) -> None:
    body = cameras.FILES[name](orientation)
    assert raw.format_of(body) == name
    decoded = decode(memoryview(body), ReadingTransform(), MAX_PIXELS)
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(io.BytesIO(cameras.jpeg(exif=exif))) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    assert decoded[1:3] == (upright.shape[1], upright.shape[0])
    assert near(decoded.pixels, upright)


def test_the_orientation_of_the_picture_itself_is_the_one_that_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    body = cameras.tiff_based("SONY", 8, cameras.jpeg(exif=exif))
    turned = decode(body, SMALL, MAX_PIXELS)
    assert np.array_equal(turned.pixels, decode(cameras.jpeg(exif=exif), SMALL, MAX_PIXELS).pixels)


@pytest.mark.parametrize("name", ["NEF", "DNG"])
def test_a_thumbnail_never_stands_for_a_raw_file(name: str) -> None:
    small = cameras.thumbnail()
    body = cameras.dng(1, small) if name == "DNG" else cameras.tiff_based("NIKON", 1, small)
    with pytest.raises(UnsupportedImageError, match=rf"camera raw \({name}\).*384 pixels.*has 160 x 120; develop it"):
        decode(body, SMALL, MAX_PIXELS)


def test_a_picture_of_the_least_size_is_taken_and_one_of_a_pixel_less_is_not() -> None:
    assert decode(cameras.tiff_based("SONY", 1, cameras.jpeg(384, 200)), SMALL, MAX_PIXELS).width == 384
    with pytest.raises(UnsupportedImageError, match="383 x 200"):
        decode(cameras.tiff_based("SONY", 1, cameras.jpeg(383, 200)), SMALL, MAX_PIXELS)


def test_a_raw_file_without_a_picture_says_so() -> None:
    with pytest.raises(UnsupportedImageError, match=r"camera raw \(CR3\).* and it has none"):
        decode(cameras.box(b"ftyp", b"crx \x00\x00\x00\x01crx isom") + bytes(4000), SMALL, MAX_PIXELS)


@pytest.mark.parametrize("orientation", [1, 8])
@pytest.mark.parametrize("make", [cameras.finished_dng, cameras.strips_of_jpeg])
def test_a_finished_picture_in_strips_is_read(make: object, orientation: int) -> None:
    body = make(orientation)  # type: ignore[operator]
    decoded = decode(body, ReadingTransform(), MAX_PIXELS)
    turns = {1: None, 8: Image.Transpose.ROTATE_90}
    wanted = cameras.scene() if orientation == 1 else cameras.scene().transpose(turns[orientation])
    assert decoded[1:3] == wanted.size
    assert near(decoded.pixels, np.asarray(wanted))


@pytest.mark.parametrize("options", [{"byteorder": ">"}, {"bigtiff": True}])
def test_raw_files_of_either_order_of_bytes_and_of_any_size_are_read(options: dict[str, Any]) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, **options) as writer:
        thumbnail = np.full((120, 160, 3), 200, np.uint8)
        writer.write(thumbnail, photometric="rgb", subifds=2, extratags=[(271, 2, 6, "NIKON", True)])
        writer.write(np.asarray(cameras.scene()), photometric="rgb", subfiletype=1, rowsperstrip=64)
        writer.write(np.zeros((400, 600), np.uint16), photometric="cfa", extratags=[(33422, 1, 4, bytes(4), True)])
    assert raw.format_of(file.getvalue()) == "NEF"
    decoded = decode(file.getvalue(), ReadingTransform(), MAX_PIXELS)
    assert np.array_equal(decoded.pixels, np.asarray(cameras.scene()))


def test_a_tile_of_the_sensors_data_is_no_picture() -> None:
    decoded = decode(cameras.tiled_dng(), SMALL, MAX_PIXELS)
    assert decoded[1:3] == (450, 300)


def test_a_jpeg_inside_another_one_is_no_picture_of_the_file() -> None:
    inside = poison.with_segment(cameras.jpeg(), 0xE2, cameras.jpeg(500, 700, optimize=True)[:60_000])
    decoded = decode(cameras.tiff_based("SONY", 1, inside), SMALL, MAX_PIXELS)
    assert decoded[1:3] == (cameras.WIDTH, cameras.HEIGHT)


def test_a_raw_file_that_is_cut_off_is_not_read_from_what_is_left() -> None:
    body = cameras.cr2()
    large = body.index(cameras.jpeg())
    for share in (0.3, 0.9):
        with pytest.raises((TruncatedImageError, CorruptImageError, UnsupportedImageError)):
            decode(body[: large + int(len(cameras.jpeg()) * share)], SMALL, MAX_PIXELS)


def test_an_ordinary_tiff_is_not_taken_for_raw() -> None:
    for options in ({}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}, {"big_tiff": True}):
        body = poison.encoded(poison.scene(), "TIFF", **options)
        assert raw.format_of(body) is None
        assert decode(body, SMALL, MAX_PIXELS).width == poison.WIDTH


def test_damage_anywhere_in_a_raw_file_ends_in_a_class_of_failure_or_a_picture() -> None:
    noise = np.random.default_rng(11)
    for make in cameras.FILES.values():
        body = np.frombuffer(make(1), np.uint8)
        for _ in range(12):
            damaged = body.copy()
            damaged[noise.integers(0, 200, 6)] = noise.integers(0, 256, 6)
            damaged[noise.integers(0, len(body), 6)] = noise.integers(0, 256, 6)
            with suppress(UndecodableError):
                assert decode(damaged.tobytes(), SMALL, MAX_PIXELS).pixels.shape == (64, 64, 3)


def test_directories_that_point_at_each_other_are_read_once() -> None:
    file = cameras.TiffWriter()
    at = len(file.body) + 8  # behind the two offsets
    assert file.directory({330: (cameras.LONG, [at, at])}, at) == at
    assert len(list(tiff.Tiff(file.done(at)).directories())) == 1


def test_the_end_of_a_jpeg_is_found_in_scans_of_every_kind() -> None:
    for options in ({}, {"progressive": True}, {"quality": 100, "subsampling": 0}):
        body = poison.encoded(poison.detailed(400, 300), "JPEG", **options)
        header = jpeg.frame(body + body)
        assert header is not None
        assert (header.width, header.height, header.channels) == (400, 300, 3)
        assert jpeg.end(body + b"rest" + body, header) == len(body)


def test_the_table_of_raw_formats_is_the_one_in_the_code_and_has_a_file_here_each() -> None:
    page = (ROOT / "docs" / "formats.md").read_text()
    table = page.partition("## Camera raw")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| ([A-Z0-9]{3}) \| ([^|]+) \|", table, re.MULTILINE))
    assert rows == raw.FORMATS
    assert cameras.FILES.keys() == raw.FORMATS.keys()
    assert f"{raw.LEAST_SIDE} pixels" in table

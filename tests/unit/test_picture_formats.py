"""HEIC and JPEG XL are read; a file of a kind that is not read says which kind, and is never called damaged."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image

from ram_core import pictures
from ram_core.opening import formats, modern
from ram_core.transforms import ReadingTransform, SquashTransform
from tests import poison
from workers.pipeline.decode import decode, decode_for_all
from workers.pipeline.retry import NotAnImageError, TooManyPixelsError, UnsupportedImageError

MAX_PIXELS = 100_000_000
SMALL = SquashTransform(64)
ROOT = Path(__file__).parents[2]
CASES = Path(os.environ.get("RAMQ_SHARED_DIR", ROOT / ".." / "shared")) / "cases" / "images"


def whole(body: bytes) -> np.ndarray:
    return decode(body, ReadingTransform(), MAX_PIXELS).pixels.astype(int)


def jpeg_xl_of(jpeg: bytes, folder: Path) -> bytes:
    """Return the JPEG XL that a JPEG becomes without loss."""
    (folder / "a.jpg").write_bytes(jpeg)
    with Image.open(folder / "a.jpg") as image:
        return poison.encoded(image, "JXL", lossless_jpeg=True)


def tiff_of(samples: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **options)
    return file.getvalue()


@pytest.mark.parametrize("write", [poison.heic, poison.jpeg_xl])
def test_a_picture_of_a_new_format_is_read(write: object) -> None:
    scene = poison.detailed(640, 480)
    body = write(scene)  # type: ignore[operator]
    decoded = decode(memoryview(body), ReadingTransform(), MAX_PIXELS)
    assert decoded[1:3] == (640, 480)
    assert np.abs(decoded.pixels.astype(int) - np.asarray(scene)).mean() < 6


def test_heic_stands_upright_by_its_container_and_not_twice_by_its_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = poison.scene().transpose(Image.Transpose.ROTATE_90)
    decoded = decode(poison.heic(lying, exif=exif.tobytes()), ReadingTransform(), MAX_PIXELS)
    assert decoded[1:3] == (poison.WIDTH, poison.HEIGHT)
    assert np.abs(decoded.pixels.astype(int) - np.asarray(poison.scene())).mean() < 12


def test_only_the_primary_picture_of_heic_is_shown() -> None:
    file = pillow_heif.from_pillow(Image.new("RGB", (64, 48), "blue"))
    file.add_from_pillow(poison.scene())
    body = io.BytesIO()
    file.save(body, primary_index=1)
    assert decode(body.getvalue(), SMALL, MAX_PIXELS)[1:3] == (poison.WIDTH, poison.HEIGHT)


def test_a_jpeg_that_became_jpeg_xl_gives_the_pixels_of_the_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    jpeg = poison.encoded(poison.detailed(1200, 900), "JPEG", exif=exif)
    body = jpeg_xl_of(jpeg, tmp_path)
    assert formats.is_jpeg_xl(body[:64])
    for ours, theirs in zip(
        decode_for_all(body, [SMALL, ReadingTransform()], MAX_PIXELS),
        decode_for_all(jpeg, [SMALL, ReadingTransform()], MAX_PIXELS),
        strict=True,
    ):
        assert ours[1:3] == theirs[1:3] == (900, 1200)
        assert np.array_equal(ours.pixels, theirs.pixels)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (64, 64), (160, 120), (256, 256), (300, 451), (3000, 20), (9000, 2)])
def test_the_size_of_jpeg_xl_is_read_from_its_header(size: tuple[int, int]) -> None:
    body = poison.jpeg_xl(Image.new("RGB", size, "teal"))
    assert modern.jpeg_xl_size(body) == size
    boxed = poison.jpeg_xl(Image.new("RGB", size, "teal"), use_container=True)
    assert boxed != body
    assert modern.jpeg_xl_size(boxed) == size


@pytest.mark.parametrize("write", [poison.heic, poison.jpeg_xl])
def test_the_limit_of_pixels_holds_before_anything_is_decoded(write: object, monkeypatch: pytest.MonkeyPatch) -> None:
    body = write(Image.new("RGB", (200, 100)))  # type: ignore[operator]
    monkeypatch.setattr(pillow_heif.HeifImage, "load", lambda _: pytest.fail("decoded"))
    monkeypatch.setattr("pillow_jxl.Decoder", lambda **_: pytest.fail("decoded"))
    with pytest.raises(TooManyPixelsError, match="200 x 100"):
        decode(body, SMALL, 19_999)


def test_jpeg_xl_is_decoded_once_for_several_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    open_jpeg_xl = modern.open_jpeg_xl
    monkeypatch.setattr(modern, "open_jpeg_xl", lambda *args: (calls.append(1), open_jpeg_xl(*args))[1])
    together = decode_for_all(
        poison.jpeg_xl(poison.scene()), [SMALL, ReadingTransform(), SquashTransform(70)], MAX_PIXELS
    )
    assert len(together) == 3
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("body", "module", "package"),
    [(lambda: poison.heic(poison.scene()), "pillow_heif", "pillow-heif"),
     (lambda: poison.jpeg_xl(poison.scene()), "pillow_jxl", "pillow-jxl-plugin")],
)  # fmt: skip
def test_a_missing_package_is_named(body: object, module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = body()  # type: ignore[operator]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnsupportedImageError, match=f"pip install {package}"):
        decode(made, SMALL, MAX_PIXELS)


def test_their_packages_are_loaded_for_the_first_such_file_only() -> None:
    code = (
        "import io, sys; from PIL import Image; from ram_core.pictures import decode_for_all;"
        "from ram_core.transforms import SquashTransform; file = io.BytesIO();"
        "Image.new('RGB', (9, 9)).save(file, 'PNG');"
        "decode_for_all(file.getvalue(), [SquashTransform(8)]);"
        "print(*({'pillow_heif', 'pillow_jxl', 'PIL.ImageCms'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


FILMS = {
    "mov": b"\x00\x00\x00\x14ftypqt  \x00\x00\x02\x00qt  ",
    "old mov": b"\x00\x00\x00\x08wide\x00\x00\x10\x00mdat",
    "mp4": b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom",
    "mkv, webm": b"\x1aE\xdf\xa3\x9fB\x86\x81\x01",
    "avi": b"RIFF\x00\x10\x00\x00AVI LIST",
    "mts": (b"\x00\x00\x00\x00G" + bytes(187)) * 4,
    "ts": (b"G" + bytes(187)) * 4,
    "mpg": b"\x00\x00\x01\xba\x44",
    "wmv": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
}


@pytest.mark.parametrize("name", FILMS)
def test_a_film_is_called_a_film(name: str) -> None:
    with pytest.raises(UnsupportedImageError, match=r"^a film is not supported"):
        decode(FILMS[name] + bytes(600), SMALL, MAX_PIXELS)


RNG = np.random.default_rng(3)
RGB_8 = RNG.integers(0, 255, (40, 50, 3), dtype=np.uint8)
EIGHT_BANDS = RNG.integers(0, 255, (40, 50, 8), dtype=np.uint8)
PLANES_16 = RNG.integers(0, 65535, (3, 40, 50), dtype=np.uint16)
UNSUPPORTED = {
    "float RGB": (lambda: tiff_of(RGB_8.astype(np.float32), photometric="rgb"), "3 floating-point samples of 32 bits"),
    "float of 64 bits": (lambda: tiff_of(RGB_8[..., 0].astype(np.float64)), "floating-point sample of 64 bits"),
    "eight bands": (lambda: tiff_of(EIGHT_BANDS, planarconfig="contig"), "8 samples of 8 bits"),
    "complex": (lambda: tiff_of(RGB_8[..., 0].astype(np.complex64)), "1 complex sample of"),
    "32 bits RGB": (lambda: tiff_of(RGB_8.astype(np.uint32), photometric="rgb"), "3 samples of 32 bits"),
    "planar 16 bits": (
        lambda: tiff_of(PLANES_16, photometric="rgb", planarconfig="separate"),
        "16 bits per sample in separate planes",
    ),
    "big-endian BigTIFF": (
        lambda: tiff_of(RGB_8, photometric="rgb", byteorder=">", bigtiff=True), "a big-endian BigTIFF"
    ),
    "JPEG 2000 in TIFF": (lambda: with_compression(34712), "TIFF compressed as JPEG 2000"),
    "unknown in TIFF": (lambda: with_compression(12345), "TIFF compressed as number 12345"),
    "12-bit JPEG": (lambda: with_frame(0xC1, bits=12), "JPEG with 12 bits per sample"),
    "lossless JPEG": (lambda: with_frame(0xC3), "lossless JPEG"),
    "hierarchical JPEG": (lambda: with_frame(0xC5), "JPEG with coding process 5"),
    "iPhone's PNG": (lambda: b"\x89PNG\r\n\x1a\n\x00\x00\x00\x04CgBI" + bytes(100), "PNG for iPhones only"),
}  # fmt: skip


def with_compression(number: int) -> bytes:
    """Return a TIFF that claims another compression."""
    body = tiff_of(RGB_8, photometric="rgb")
    entry = b"\x03\x01\x03\x00\x01\x00\x00\x00"
    at = body.index(entry) + len(entry)
    return body[:at] + number.to_bytes(4, "little") + body[at + 4 :]


def with_frame(marker: int, bits: int = 8) -> bytes:
    """Return a JPEG that claims another coding process or depth."""
    body = bytearray(poison.encoded(poison.scene(), "JPEG"))
    at = body.index(b"\xff\xc0")
    body[at + 1], body[at + 4] = marker, bits
    return bytes(body)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_kind_that_is_not_read_is_named_and_not_called_damaged(name: str) -> None:
    make, words = UNSUPPORTED[name]
    with pytest.raises(UnsupportedImageError, match=words):
        decode(make(), SMALL, MAX_PIXELS)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Unsupported BMP bitfields layout", "unsupported"),
        ("Memory allocation error: Security limit exceeded: 600000000 bytes", "unsupported"),
        ("image file is truncated (3 bytes not processed)", "truncated"),
        ("Invalid input: Unexpected end of file", "truncated"),
        ("broken data stream", "corrupt"),
    ],
)
def test_the_words_of_a_decoder_decide_the_class_where_the_header_says_nothing(said: str, reason: str) -> None:
    error = formats.undecodable(b"", OSError(said + "\n"))
    assert error.reason == reason
    assert said in str(error)
    assert "\n" not in str(error)


def test_text_that_begins_like_a_film_is_none() -> None:
    with pytest.raises(NotAnImageError):
        decode(b"The wide road, and a mdat" * 100, SMALL, MAX_PIXELS)


def test_a_large_jpeg_counts_by_the_pixels_that_are_decoded() -> None:
    body = poison.encoded(Image.new("RGB", (1600, 1200), "teal"), "JPEG")
    decoded = decode(body, SquashTransform(64), 1_000_000)
    assert decoded[1:3] == (1600, 1200)
    with pytest.raises(TooManyPixelsError, match="1,600 x 1,200"):
        decode(body, ReadingTransform(), 1_000_000)  # wants all of them
    with pytest.raises(TooManyPixelsError, match="1,600 x 1,200"):
        decode(body, SquashTransform(64), 900_000)  # more than twice the limit
    with pytest.raises(TooManyPixelsError):
        decode(poison.encoded(Image.new("RGB", (1600, 1200), "teal"), "PNG"), SquashTransform(64), 1_000_000)


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not at hand")
@pytest.mark.parametrize(
    ("name", "words"),
    [("12-phone-linear.dng", r"camera raw \(DNG\)"), ("28-12bit.jpg", "12 bits"),
     ("35-rgb-float32.tif", "floating-point"), ("38-8band.tif", "8 samples"), ("41-tiff-j2k.tif", "JPEG 2000")],
)  # fmt: skip
def test_the_cases_that_are_not_read_say_why(name: str, words: str) -> None:
    with pytest.raises(UnsupportedImageError, match=words):
        decode((CASES / name).read_bytes(), SMALL, MAX_PIXELS)


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not at hand")
@pytest.mark.parametrize(
    "name",
    ["13-canon.cr2", "14-canon.cr3", "15-panasonic.rw2", "16-olympus.orf", "17-sigma.x3f", "60-prophoto.jpg",
     "53-anim-first-empty.webp", "54-anim-first-black.gif", "90-iphone.heic", "91-heic-named.jpg", "92.jxl"],
)  # fmt: skip
def test_the_cases_of_the_reference_show_the_reference(name: str) -> None:
    wanted = decode((CASES / "00-ref.jpg").read_bytes(), SMALL, MAX_PIXELS)
    found = decode((CASES / name).read_bytes(), SMALL, MAX_PIXELS)
    assert found[1:3] == wanted[1:3]
    assert np.abs(found.pixels.astype(int) - wanted.pixels).mean() < 2


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not at hand")
def test_the_case_of_nikon_is_read_in_full_and_upright() -> None:
    assert decode((CASES / "10-nikon.nef").read_bytes(), SMALL, MAX_PIXELS)[1:3] == (300, 451)


def test_the_formats_of_pillow_are_the_documented_ones() -> None:
    page = (ROOT / "docs" / "formats.md").read_text()
    table = page.partition("## Pictures")[2].partition("\n## ")[0]
    listed = {line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")} - {"format", "---"}
    assert {name.upper() for name in listed} == {*pictures.FORMATS, "HEIC", "JPEG XL", "PDF"}

"""Untrusted bytes to upright pixels, or to the reason why not."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps, PngImagePlugin

from ram_core.pictures import open_picture
from ram_core.transforms import ReadingTransform, SquashTransform
from storage.errors import PermanentError
from tests import poison
from workers.pipeline.decode import ThumbnailTransform, decode, decode_for_all, guard_pillow
from workers.pipeline.retry import TooManyPixelsError, TruncatedImageError, codes, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

MAX_PIXELS = 100_000_000
SMALL = SquashTransform(size=64)


@pytest.fixture(autouse=True)
def _guarded() -> Iterator[None]:
    before = Image.MAX_IMAGE_PIXELS
    guard_pillow(MAX_PIXELS)
    yield
    Image.MAX_IMAGE_PIXELS = before


UNREADABLE = {"truncated", "corrupt", "too_large", "not_an_image", "unsupported"}


def quadrants(body: bytes) -> list[tuple[int, int, int]]:
    """The colours in the middle of each quarter of the decoded picture."""
    pixels = decode(body, SMALL, MAX_PIXELS).pixels.astype(int)
    return [tuple(pixels[row, column].tolist()) for row in (16, 48) for column in (16, 48)]


def outcome(body: bytes) -> NDArray[np.uint8] | str:
    """The pixels, or the class of failure."""
    try:
        return decode(body, SMALL, MAX_PIXELS).pixels
    except PermanentError as error:
        return verdict(error).code


def is_near(found: tuple[int, int, int], wanted: tuple[int, int, int], tolerance: int) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("bad", [bad for bad in poison.bad() if bad.body], ids=lambda bad: bad.name)
def test_a_bad_file_ends_with_the_class_of_failure_that_says_why(bad: poison.Bad) -> None:
    with pytest.raises(PermanentError) as caught:
        decode(bad.body, SMALL, MAX_PIXELS)
    judged = verdict(caught.value)
    assert judged.code in bad.codes
    assert judged.code in codes()
    assert judged.about_content
    assert str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("odd", list(poison.odd()), ids=lambda odd: odd.name)
def test_an_unusual_picture_is_read_and_its_true_size_told(odd: poison.Odd) -> None:
    decoded = decode(odd.body, SMALL, MAX_PIXELS)
    assert (decoded.width, decoded.height) == (odd.width, odd.height)
    assert decoded.pixels.shape == (64, 64, 3)
    assert decoded.pixels.dtype == np.uint8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_upright_however_the_camera_was_held(orientation: int) -> None:
    found = quadrants(poison.turned(orientation))
    assert all(is_near(a, b, 12) for a, b in zip(found, poison.QUADRANTS, strict=True)), found


COLOURED = {
    "cmyk", "cmyk-tiff", "palette", "ycbcr-tiff", "lab-tiff", "animated-gif", "animated-webp", "animated-png",
    "several-pages", "several-shots", "heic", "jpeg-xl",
}  # fmt: skip
GREY = {"grey", "grey-16", "grey-16-tiff", "float-tiff"}
HALF_SEEN = {"rgba", "rgba-webp"}
WITH_A_HOLE = {"rgb-transparent", "palette-transparent"}


@pytest.mark.parametrize("odd", [odd for odd in poison.odd() if odd.name in COLOURED], ids=lambda odd: odd.name)
def test_every_mode_and_the_first_frame_show_the_colours_of_the_scene(odd: poison.Odd) -> None:
    found = quadrants(odd.body)
    assert all(is_near(a, b, 30) for a, b in zip(found, poison.QUADRANTS, strict=True)), found


@pytest.mark.parametrize("odd", [odd for odd in poison.odd() if odd.name in GREY], ids=lambda odd: odd.name)
def test_every_depth_of_grey_shows_the_same_greys(odd: poison.Odd) -> None:
    grey = [int(np.asarray(Image.new("RGB", (1, 1), colour).convert("L"))[0, 0]) for colour in poison.QUADRANTS]
    found = quadrants(odd.body)
    assert all(is_near(a, (b, b, b), 3) for a, b in zip(found, grey, strict=True)), (found, grey)


@pytest.mark.parametrize("odd", [odd for odd in poison.odd() if odd.name in HALF_SEEN], ids=lambda odd: odd.name)
def test_what_is_half_transparent_is_half_white(odd: poison.Odd) -> None:
    wanted = [tuple((each + 255) // 2 for each in colour) for colour in poison.QUADRANTS]
    assert all(is_near(a, b, 30) for a, b in zip(quadrants(odd.body), wanted, strict=True))


@pytest.mark.parametrize("odd", [odd for odd in poison.odd() if odd.name in WITH_A_HOLE], ids=lambda odd: odd.name)
def test_what_is_transparent_is_white_and_all_else_as_it_is(odd: poison.Odd) -> None:
    found = quadrants(odd.body)
    assert found.count((255, 255, 255)) == 1
    assert sum(is_near(a, b, 30) for a, b in zip(found, poison.QUADRANTS, strict=True)) == 3


def test_the_tables_name_pictures_that_exist() -> None:
    assert {odd.name for odd in poison.odd()} >= COLOURED | GREY | HALF_SEEN | WITH_A_HOLE


@pytest.mark.parametrize("kind", sorted(poison.cuttable()))
def test_a_picture_cut_anywhere_is_refused_unless_all_its_pixels_arrived(kind: str) -> None:
    body = poison.cuttable()[kind]
    whole = decode(body, SMALL, MAX_PIXELS).pixels
    near_the_end = range(len(body) - 30, len(body))
    for cut in (*range(1, 600, 13), *range(600, len(body) - 30, len(body) // 60), *near_the_end):
        found = outcome(body[:cut])
        if isinstance(found, str):
            # A file of a few bytes cannot be told from any other few bytes.
            assert found in {"truncated", "corrupt"} | ({"not_an_image"} if cut < 16 else set()), cut
        else:
            assert cut > len(body) - 30
            assert np.array_equal(found, whole), cut


def test_a_jpeg_that_ends_too_early_is_called_truncated() -> None:
    with pytest.raises(TruncatedImageError, match="cut short"):
        decode(poison.cuttable()["jpeg"][:10_000], SMALL, MAX_PIXELS)


def test_a_bomb_is_refused_on_its_header_without_taking_memory() -> None:
    body = poison.png_header(9_000, 9_000)
    tracemalloc.start()
    with pytest.raises(TooManyPixelsError, match=r"9,000 x 9,000 pixels exceed the limit of 80,000,000"):
        decode(body, SMALL, 80_000_000)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2_000_000


def test_the_limit_holds_although_pillow_itself_would_allow_more() -> None:
    with pytest.raises(TooManyPixelsError):
        decode(poison.encoded(poison.scene(100, 101), "PNG"), SMALL, 10_000)
    assert decode(poison.encoded(poison.scene(100, 100), "PNG"), SMALL, 10_000).width == 100


@pytest.mark.parametrize(("width", "height"), [(2000, 1500), (1601, 3203), (1999, 1024), (768, 5000)])
def test_the_quick_way_to_decode_a_jpeg_gives_nearly_the_same_pixels(width: int, height: int) -> None:
    picture = poison.detailed(width, height)
    body = poison.encoded(picture, "JPEG", quality=90)
    preprocessing = SquashTransform()
    with Image.open(io.BytesIO(body)) as image:
        full = preprocessing(image)
    quick = decode(body, preprocessing, MAX_PIXELS)
    assert (quick.width, quick.height) == (width, height)
    difference = np.abs(quick.pixels.astype(int) - full)
    assert difference.mean() < 2
    assert difference.max() < 16


def test_a_large_jpeg_is_decoded_small_but_never_below_what_is_asked_for() -> None:
    body = poison.encoded(poison.detailed(4000, 3000), "JPEG")
    opened = open_picture(body, 768, MAX_PIXELS)
    assert opened.turn is None
    assert (opened.width, opened.height) == (4000, 3000)
    assert 768 <= min(opened.image.size) < 1536


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_several_ways_at_once_give_what_each_gives_alone_and_load_no_scale_twice(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((1800, 1400)).save(buffer, kind)
    ways = [SMALL, ReadingTransform(), SquashTransform(70)]
    loads = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(
        ImageFile.ImageFile, "load", lambda image: (loads.append(1) if image.tile else None, load(image))[1]
    )
    together = decode_for_all(buffer.getvalue(), ways, MAX_PIXELS)
    assert len(loads) == (2 if kind == "JPEG" else 1)  # the reader takes a JPEG as it is
    for way, found in zip(ways, together, strict=True):
        alone = decode(buffer.getvalue(), way, MAX_PIXELS)
        assert (found.pixels == alone.pixels).all()
        assert found[1:3] == alone[1:3] == (1800, 1400)


def test_a_thumbnail_changes_nothing_for_those_who_prepare_the_same_picture() -> None:
    body = poison.encoded(poison.detailed(900, 700), "PNG")
    together = decode_for_all(body, [ThumbnailTransform(100), SMALL], MAX_PIXELS)
    assert together[0].pixels.shape == (78, 100, 3)
    assert np.array_equal(together[1].pixels, decode(body, SMALL, MAX_PIXELS).pixels)


def turned_jpeg(orientation: int = 6, width: int = 2000, height: int = 1500) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return poison.encoded(poison.detailed(width, height), "JPEG", exif=exif)


def test_a_turned_jpeg_keeps_its_true_size_when_it_is_decoded_small() -> None:
    opened = open_picture(turned_jpeg(), 300, MAX_PIXELS)
    assert (opened.width, opened.height) == (1500, 2000)
    assert opened.turn == Image.Transpose.ROTATE_270
    assert opened.image.size == (500, 375)
    for preprocessing in (SMALL, ThumbnailTransform(300)):
        decoded = decode(turned_jpeg(), preprocessing, MAX_PIXELS)
        assert decoded[1:3] == (1500, 2000)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_pixels_are_those_of_the_picture_that_a_viewer_turns(orientation: int) -> None:
    body = turned_jpeg(orientation, 640, 480)
    with Image.open(io.BytesIO(body)) as image:
        upright = ImageOps.exif_transpose(image)
    for preprocessing in (SquashTransform(330), ReadingTransform(), ThumbnailTransform(300)):
        assert np.array_equal(decode(body, preprocessing, MAX_PIXELS).pixels, preprocessing(upright))
    image = Image.open(io.BytesIO(body))
    image.draft(None, (171, 128))
    small = SMALL(ImageOps.exif_transpose(image))
    together = decode_for_all(body, [SMALL, ReadingTransform(), SMALL], MAX_PIXELS)
    assert all(np.array_equal(together[at].pixels, small) for at in (0, 2))


def test_a_picture_is_turned_once_and_not_kept_beside_the_turned_one(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_picture(turned_jpeg(6, 640, 480), 10_000, MAX_PIXELS)
    original = weakref.ref(opened.image)
    turns = []
    transpose = Image.Image.transpose
    monkeypatch.setattr(Image.Image, "transpose", lambda image, how: (turns.append(how), transpose(image, how))[1])
    whole = opened.prepare(ReadingTransform())
    assert original() is None
    again = opened.prepare(ReadingTransform())
    opened.prepare(SquashTransform(330))
    assert turns == [Image.Transpose.ROTATE_270]
    assert np.array_equal(whole.pixels, again.pixels)
    assert whole[1:3] == again[1:3] == (480, 640)


def test_memory_that_runs_out_while_a_picture_is_turned_is_no_damaged_block(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "transpose", fail)
    with pytest.raises(MemoryError):
        decode(turned_jpeg(), SMALL, MAX_PIXELS)


def test_what_a_file_is_is_told_by_its_bytes_and_a_view_of_them_does() -> None:
    body = poison.encoded(poison.scene(), "PNG")
    assert np.array_equal(decode(memoryview(body), SMALL, MAX_PIXELS).pixels, decode(body, SMALL, MAX_PIXELS).pixels)


def test_many_threads_decode_good_and_bad_files_side_by_side() -> None:
    bodies = [*(one.body for one in poison.odd()), *(one.body for one in poison.bad())]
    bodies = [body for body in bodies if 0 < len(body) < 60_000]

    def digest(body: bytes) -> str:
        found = outcome(body)
        return found if isinstance(found, str) else hashlib.sha256(found.tobytes()).hexdigest()

    alone = [digest(body) for body in bodies]
    with ThreadPoolExecutor(8) as pool:
        for together in (list(pool.map(digest, bodies)) for _ in range(3)):
            assert together == alone


def test_random_damage_never_escapes_as_an_unforeseen_error() -> None:
    noise = np.random.default_rng(7)
    for kind, body in poison.cuttable().items():
        for _ in range(25):
            damaged = np.frombuffer(body, np.uint8).copy()
            places = noise.integers(0, min(len(body), 2000), 8)
            damaged[places] = noise.integers(0, 256, 8)
            found = outcome(damaged.tobytes())
            assert not isinstance(found, str) or found in UNREADABLE, kind


def test_a_long_text_beside_the_pixels_does_not_cost_them() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", "x" * 5_000_000, zip=True)
    body = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(body, "PNG", pnginfo=info)
    assert decode(body.getvalue(), SquashTransform(8), 10**7).pixels[0, 0].tolist() == [255, 0, 0]

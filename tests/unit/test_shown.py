"""Pictures as people see them: profiles, transparency, depth, the first frame that shows something."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageDraw

from ram_core import pictures
from ram_core.opening import colours, depth, frames
from ram_core.transforms import ReadingTransform, SquashTransform
from tests import poison, profiles
from workers.pipeline.decode import ThumbnailTransform, decode

MAX_PIXELS = 100_000_000
SMALL = SquashTransform(64)
OTHER = profiles.exchanged()


def whole(body: bytes) -> np.ndarray:
    return decode(body, ReadingTransform(), MAX_PIXELS).pixels.astype(int)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_with_another_profile_is_converted(kind: str) -> None:
    scene = poison.scene()
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    plain = whole(poison.encoded(scene, kind, **options))
    converted = whole(poison.encoded(scene, kind, icc_profile=OTHER, **options))
    wanted = ImageCms.profileToProfile(
        Image.fromarray(plain.astype(np.uint8)), io.BytesIO(OTHER), ImageCms.createProfile("sRGB"),
        ImageCms.Intent.RELATIVE_COLORIMETRIC, flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )  # fmt: skip
    assert np.abs(converted - plain).mean() > 4
    assert np.array_equal(converted, np.asarray(wanted))


@pytest.mark.parametrize(
    "body", [profiles.srgb(), b"\xff" * 200, b"", profiles.srgb()[:300]], ids=["sRGB", "damaged", "empty", "cut"]
)
def test_pixels_stay_the_same_with_a_profile_that_says_nothing_else(body: bytes) -> None:
    for kind in ("JPEG", "PNG"):
        picture = poison.detailed(300, 200)
        assert np.array_equal(
            whole(poison.encoded(picture, kind, icc_profile=body)), whole(poison.encoded(picture, kind))
        )


def test_a_profile_of_other_pixels_is_not_applied() -> None:
    grey = poison.detailed(300, 200).convert("L")
    assert np.array_equal(whole(poison.encoded(grey, "JPEG", icc_profile=OTHER)), whole(poison.encoded(grey, "JPEG")))


def test_a_profile_is_applied_beside_transparency_and_palettes() -> None:
    rgba = poison.scene().convert("RGBA")
    rgba.putpixel((0, 0), (0, 0, 0, 0))
    converted = whole(poison.encoded(rgba, "PNG", icc_profile=OTHER))
    wanted = whole(poison.encoded(poison.scene(), "PNG", icc_profile=OTHER))
    assert converted[0, 0].tolist() == [255, 255, 255]
    assert np.array_equal(converted[5:], wanted[5:])
    palette = poison.scene().quantize(4)
    found = whole(poison.encoded(palette, "PNG", icc_profile=OTHER))
    assert np.array_equal(found, whole(poison.encoded(palette.convert("RGB"), "PNG", icc_profile=OTHER)))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_are_what_their_profile_says(kind: str) -> None:
    cyan = Image.new("CMYK", (64, 48), (255, 0, 0, 0))
    assert whole(poison.encoded(cyan, kind))[20, 20].tolist() == pytest.approx([0, 255, 255], abs=3)
    red, green, blue = whole(poison.encoded(cyan, kind, icc_profile=profiles.grey_inks()))[20, 20].tolist()
    assert red == pytest.approx(green, abs=4) == pytest.approx(blue, abs=4)
    assert 120 < red < 200


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_is_what_its_profile_says(mode: str) -> None:
    half = Image.new("L", (64, 48), 128).convert(mode)
    if mode == "LA":
        half.putpixel((0, 0), (128, 0))
    found = whole(poison.encoded(half, "PNG", icc_profile=profiles.linear_grey()))
    assert found[20, 20].tolist() == pytest.approx([188] * 3, abs=2)  # half the light
    assert found[0, 0].tolist() == pytest.approx([255 if mode == "LA" else 188] * 3, abs=2)


def test_a_profile_is_read_once_for_many_pictures() -> None:
    colours._conversion.cache_clear()
    body = poison.encoded(poison.scene(), "JPEG", icc_profile=OTHER)
    for _ in range(5):
        whole(body)
    assert colours._conversion.cache_info().misses == 1


def drawing(ink: tuple[int, int, int], under: tuple[int, int, int]) -> Image.Image:
    """Return a cross of this colour; where nothing is drawn there is ``under``, fully transparent."""
    picture = Image.new("RGBA", (120, 120), (*under, 0))
    draw = ImageDraw.Draw(picture)
    for line in ((10, 10, 110, 110), (10, 110, 110, 10)):
        draw.line(line, fill=(*ink, 255), width=9)
    return picture


@pytest.mark.parametrize("ink", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (250, 250, 210), (200, 0, 0)])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF", "GIF"])
def test_a_drawing_on_nothing_can_be_seen_on_its_ground(kind: str, ink: tuple[int, int, int]) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 90} if kind == "AVIF" else {}
    body = poison.encoded(drawing(ink, ink), kind, **options)
    for preprocessing in (SMALL, ThumbnailTransform(64)):
        levels = decode(body, preprocessing, MAX_PIXELS).pixels.mean(axis=-1)
        assert levels.max() - levels.min() > 40
        middle, corner = levels[32, 32], levels[32, 2]
        assert abs(middle - corner) > 40


def test_the_ground_is_white_where_the_picture_shows_on_white() -> None:
    found = whole(poison.encoded(drawing((200, 0, 0), (0, 0, 0)), "PNG"))
    assert found[60, 2].tolist() == [255, 255, 255]
    assert found[60, 60].tolist() == [200, 0, 0]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_a_picture_that_could_be_transparent_and_is_not_keeps_its_pixels(mode: str) -> None:
    scene = poison.detailed(300, 200)
    opaque = scene.convert("L").convert("LA").convert("PA") if mode == "PA" else scene.convert(mode)
    kind = "TIFF" if mode == "PA" else "PNG"
    wanted = scene if mode == "RGBA" else scene.convert("L").convert("RGB")
    assert np.array_equal(whole(poison.encoded(opaque, kind)), np.asarray(wanted))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
@pytest.mark.parametrize("first", ["black", "white", "transparent"])
def test_an_animation_is_shown_by_its_first_frame_that_shows_something(kind: str, first: str) -> None:
    if (kind, first) == ("AVIF", "transparent"):
        pytest.skip("Pillow writes no such file")
    scene = poison.scene()
    if first == "transparent":
        empty, scene = Image.new("RGBA", scene.size, (0, 0, 0, 0)), scene.convert("RGBA")
    else:
        empty = Image.new("RGB", scene.size, first)
    options = {
        "GIF": {"disposal": 2},
        "WEBP": {"lossless": True},
        "PNG": {"default_image": False},
        "AVIF": {"quality": 90},
    }
    body = poison.encoded(empty, kind, save_all=True, append_images=[empty, scene, scene], duration=50, **options[kind])
    found = decode(body, SMALL, MAX_PIXELS).pixels.astype(int)
    wanted = SMALL(poison.scene()).astype(int)
    assert np.abs(found - wanted).mean() < 12


def test_an_animation_whose_first_frame_shows_something_keeps_it() -> None:
    others = [Image.new("RGB", (90, 60), "white")]
    for kind in ("GIF", "WEBP", "PNG"):
        one = poison.encoded(poison.scene(), kind, **({"lossless": True} if kind == "WEBP" else {}))
        several = poison.encoded(
            poison.scene(), kind, save_all=True, append_images=others, **({"lossless": True} if kind == "WEBP" else {})
        )
        assert np.array_equal(whole(one), whole(several)), kind


def test_an_animation_that_never_shows_anything_is_read_at_its_first_frame() -> None:
    grey = [Image.new("RGB", (90, 60), (level,) * 3) for level in range(0, 250, 2)]
    body = poison.encoded(grey[0], "GIF", save_all=True, append_images=grey[1:])
    assert whole(body).max() == 0
    assert len(grey) > frames._MOST_FRAMES


def test_a_damaged_later_frame_leaves_the_first_one() -> None:
    empty = Image.new("RGB", (90, 60), "black")
    body = poison.encoded(empty, "GIF", save_all=True, append_images=[poison.detailed(90, 60)])
    assert whole(body[: len(body) - 900]).max() == 0


def tiff_of(samples: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **options)
    return file.getvalue()


def png_16(samples: np.ndarray, *, interlaced: bool = False) -> bytes:
    """Return a PNG of (H, W) or (H, W, 3) samples of 16 bits."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    assert not interlaced
    rows = samples.astype(">u2").reshape(height, -1)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, colour, 0, 0, 0])
    return poison.png((b"IHDR", header), (b"IDAT", content), (b"IEND", b""))


def ramp(bits: int, channels: int) -> np.ndarray:
    """Return (40, 64) or (40, 64, C) samples that use so many bits."""
    steps = np.linspace(0, (1 << bits) - 1, 64).astype(np.uint16)
    grey = np.tile(steps, (40, 1))
    return grey if channels == 1 else np.stack([np.roll(grey, 9 * each, axis=1) for each in range(channels)], axis=-1)


WRITERS = {
    "PNG": png_16,
    "TIFF": lambda samples: tiff_of(samples, photometric="rgb" if samples.ndim == 3 else "minisblack"),
    "TIFF, big-endian": lambda samples: tiff_of(
        samples, photometric="rgb" if samples.ndim == 3 else "minisblack", byteorder=">"
    ),
    "TIFF, deflated": lambda samples: tiff_of(
        samples, photometric="rgb" if samples.ndim == 3 else "minisblack", compression="zlib", predictor=True
    ),
}


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", WRITERS)
def test_samples_in_16_bits_are_read_in_the_range_that_they_use(kind: str, channels: int, bits: int) -> None:
    samples = ramp(bits, channels)
    found = whole(WRITERS[kind](samples))
    wanted = samples.astype(int) * 255 / ((1 << bits) - 1)
    wanted = np.repeat(wanted[..., None], 3, axis=-1) if channels == 1 else wanted
    assert np.abs(found - wanted).max() <= 1.01


def test_colours_that_use_their_16_bits_are_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    by_pillow = pictures._by_pillow
    monkeypatch.setattr(pictures, "_by_pillow", lambda body: (opened.append(1), by_pillow(body))[1])
    monkeypatch.setattr(depth, "_of_lower_bits", lambda _: pytest.fail("decoded again"))
    samples = ramp(16, 3)
    assert np.array_equal(whole(png_16(samples)), samples >> 8)
    assert len(opened) == 1


def test_samples_that_say_how_dark_they_are_are_no_negative() -> None:
    samples = ramp(16, 1)
    for dark in (samples, samples.astype(np.float32) / 65535):
        found = whole(tiff_of(dark, photometric="miniswhite"))
        assert np.abs(found[..., 0] - (255 - (samples >> 8))).max() <= 1


def test_grey_with_transparency_in_16_bits_is_read_in_the_range_that_it_uses() -> None:
    samples = ramp(12, 2)
    samples[..., 1] = 65535
    samples[:5, :, 1] = 0
    found = whole(png_16(samples))
    assert (found[:5] == 255).all()
    assert np.abs(found[5:] - samples[5:, :, :1].astype(int) * 255 / 4095).max() <= 1.01


@pytest.mark.parametrize("opaque", [4095, 65535])
def test_transparency_of_deep_pictures_is_kept(opaque: int) -> None:
    samples = ramp(12, 4)
    samples[..., 3] = opaque
    samples[:5, :, 3] = 0
    found = whole(png_16(samples))
    assert (found[:5] == 255).all()
    assert np.abs(found[5:] - samples[5:, :, :3].astype(int) * 255 / 4095).max() <= 1.01


PLAIN = {
    "JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGB", "L", "P", "1", "I;16"), "WEBP": ("RGB",), "GIF": ("P", "L"),
    "BMP": ("RGB", "L", "P"), "TIFF": ("RGB", "L", "P", "1", "CMYK", "I;16"), "AVIF": ("RGB",), "PPM": ("RGB", "L"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in PLAIN.items() for mode in modes])
def test_a_plain_picture_has_the_pixels_that_the_official_preprocessing_gives(kind: str, mode: str) -> None:
    """Generations keep their name, so these pixels must never change."""
    scene = poison.detailed(300, 200)
    picture = Image.fromarray(np.asarray(scene.convert("L")).astype(np.uint16) * 257) if mode == "I;16" else scene
    body = poison.encoded(picture if mode == "I;16" else picture.convert(mode), kind)
    with Image.open(io.BytesIO(body)) as image:
        assert np.array_equal(decode(body, SquashTransform(100), MAX_PIXELS).pixels, SquashTransform(100)(image))

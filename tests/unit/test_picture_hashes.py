"""Hashes of what pictures show."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from ram_core.picture_hashes import HASH_BITS, PLAIN, pixels_of, shape_of
from ram_core.transforms import SquashTransform

PREPARE = SquashTransform(260)


def drawing(seed: int, size: tuple[int, int] = (800, 600)) -> Image.Image:
    """A picture of some coloured shapes."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (800, 600), tuple(rng.integers(0, 255, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = rng.integers(0, [700, 500]).tolist()
        draw.ellipse((x, y, x + 60 + y // 3, y + 60 + x // 4), fill=tuple(rng.integers(0, 255, 3).tolist()))
    return image.resize(size, Image.Resampling.LANCZOS)


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


@pytest.mark.parametrize("seed", range(5))
def test_changed_pictures_have_nearly_the_same_hash_and_others_do_not(seed: int) -> None:
    image = drawing(seed)
    hashed = np.int64(shape_of(PREPARE(image)))
    changed = (
        drawing(seed, (400, 300)),
        drawing(seed, (150, 112)),
        as_jpeg(image, 30),
        ImageEnhance.Brightness(image).enhance(0.9),
        image.convert("L"),
        drawing(seed, (500, 500)),  # squashed
    )
    for other in changed:
        assert np.bitwise_count(np.uint64(hashed.view(np.uint64)) ^ _bits(other)) <= 8
    assert np.bitwise_count(hashed.view(np.uint64) ^ _bits(drawing(seed + 100))) > 12


def _bits(image: Image.Image) -> np.uint64:
    return np.int64(shape_of(PREPARE(image))).view(np.uint64)


def test_half_of_the_bits_are_set_so_no_hash_is_that_of_a_plain_picture() -> None:
    for seed in range(20):
        assert int(_bits(drawing(seed))).bit_count() == HASH_BITS // 2


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (640, 480)),
        Image.new("RGB", (640, 480), (200, 210, 190)),
        Image.fromarray(np.random.default_rng(0).integers(0, 12, (600, 800, 3), dtype=np.uint8)),
    ],
    ids=["black", "of one colour", "of faint noise"],
)
def test_pictures_without_structure_have_no_hash(image: Image.Image) -> None:
    assert shape_of(PREPARE(image)) == PLAIN


def test_the_other_hash_tells_pixels_and_sizes_apart() -> None:
    pixels = PREPARE(drawing(1))
    changed = pixels.copy()
    changed[100, 100, 1] ^= 1
    hashes = {
        pixels_of(pixels, 800, 600),
        pixels_of(changed, 800, 600),
        pixels_of(pixels, 600, 800),
        pixels_of(np.ascontiguousarray(pixels[:200]), 800, 600),
    }
    assert len(hashes) == 4
    assert pixels_of(pixels.copy(), 800, 600) == pixels_of(pixels, 800, 600)
    assert all(-(2**63) <= each < 2**63 for each in hashes)

"""A part of an image for display: upright, with all pixels that there are, and never enlarged."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ramq.services.images import with_margin
from workers.pipeline.decode import CropTransform, decode

MAX_PIXELS = 10_000_000


def jpeg(picture: Image.Image, turned: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turned
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


def test_a_part_of_a_large_jpeg_keeps_its_pixels() -> None:
    """A JPEG is decoded at a reduced scale where that is enough. Here that would blur a pattern of single pixels."""
    pixels = (np.indices((800, 1200)).sum(axis=0) % 2 * 255).astype(np.uint8)
    body = jpeg(Image.fromarray(pixels))
    small = decode(body, CropTransform((0.5, 0.5, 0.6, 0.6), 256), MAX_PIXELS)
    assert small.pixels.shape == (80, 120, 3)
    assert small.pixels.std() > 60
    assert (small.width, small.height) == (1200, 800)
    large = decode(body, CropTransform((0.0, 0.0, 1.0, 1.0), 300), MAX_PIXELS)
    assert large.pixels.shape == (200, 300, 3)


def test_a_part_is_of_the_upright_image() -> None:
    lying = Image.new("RGB", (400, 200), "blue")
    lying.paste("red", (0, 100, 200, 200))  # upright, this is the left half of the upper half
    part = decode(jpeg(lying, turned=6), CropTransform((0.0, 0.0, 0.4, 0.1), 64), MAX_PIXELS).pixels
    assert part.shape == (32, 64, 3)
    red, _, blue = part[16, 32].tolist()
    assert red > 200
    assert blue < 50


@pytest.mark.parametrize(
    ("box", "shape"),
    [
        ((0.0, 0.0, 0.105, 0.105), (42, 63, 3)),  # not (43, 64): the floating point has no say
        ((0.5, 0.5, 0.5001, 0.5001), (1, 1, 3)),
        ((0.9999, 0.9999, 1.0, 1.0), (1, 1, 3)),
        ((0.2499, 0.25, 0.75, 0.7501), (201, 301, 3)),
    ],
)
def test_a_part_has_every_pixel_that_its_box_touches(
    box: tuple[float, float, float, float], shape: tuple[int, int, int]
) -> None:
    file = io.BytesIO()
    Image.new("RGB", (600, 400)).save(file, "PNG")
    assert decode(file.getvalue(), CropTransform(box, 512), MAX_PIXELS).pixels.shape == shape


def test_a_margin_ends_at_the_edge_of_the_picture() -> None:
    assert with_margin((0.25, 0.25, 0.75, 0.45), 0.05) == pytest.approx((0.225, 0.24, 0.775, 0.46))
    assert with_margin((0.0, 0.01, 1.0, 1.0), 0.05) == (0.0, 0.0, 1.0, 1.0)

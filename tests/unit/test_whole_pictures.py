"""Pictures in full size: every pixel of a page, upright, whatever its size."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ramq.services.originals import png_of
from tests import scans
from workers.pipeline.decoders import Decoders
from workers.pipeline.retry import NoPageError, TooManyPixelsError

MAX_PIXELS = 30_000_000


@pytest.mark.parametrize("size", [(1, 1), (5, 2), (64, 48), (7, 1_000), (5_001, 5_003)])
def test_every_pixel_is_there_also_of_a_picture_larger_than_one_answer(size: tuple[int, int]) -> None:
    decoders = Decoders(1, MAX_PIXELS)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, "TIFF", save_all=True, append_images=[Image.fromarray(pixels)])
    try:
        assert np.array_equal(decoders.whole(buffer.getvalue(), page=2), pixels)
    finally:
        decoders.close()


def test_a_page_is_upright() -> None:
    decoders = Decoders(1, MAX_PIXELS)
    turned = Image.Exif()
    turned[0x0112] = 6
    buffer = io.BytesIO()
    scans.page(1).save(buffer, "TIFF", exif=turned)
    try:
        whole = decoders.whole(buffer.getvalue())
    finally:
        decoders.close()
    assert np.array_equal(whole, np.asarray(scans.page(1).transpose(Image.Transpose.ROTATE_270)))


def test_what_is_too_large_or_not_there_is_refused() -> None:
    decoders = Decoders(1, 100)
    try:
        with pytest.raises(TooManyPixelsError, match="more than 100 pixels"):
            decoders.whole(scans.tiff([1, 2]), page=2)
        with pytest.raises(NoPageError):
            decoders.whole(scans.tiff([1, 2]), page=3)
    finally:
        decoders.close()


def test_a_png_has_the_pixels_and_is_the_same_each_time() -> None:
    pixels = np.asarray(scans.page(3))
    assert png_of(pixels) == png_of(pixels.copy())
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png_of(pixels)))), pixels)

"""Masks: read, written, resized and united as COCO's own tools do it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ram_core.localization import rle
from storage.results.masks import Mask, of_pixels, union
from tests.region_archive import encoded

# (rows of the picture, the text of its runs, by hand)
BY_HAND = [
    (["....", "....", "...."], "<"),
    (["####", "####", "####"], "0<"),
    (["#...", "....", "...."], "01;"),
]


def picture(rows: list[str]) -> np.ndarray:
    return np.array([[one == "#" for one in row] for row in rows])


@pytest.mark.parametrize(("rows", "counts"), BY_HAND)
def test_small_masks_are_written_as_the_format_says(rows: list[str], counts: str) -> None:
    mask = of_pixels(picture(rows))
    assert mask == Mask(3, 4, counts)
    assert mask.pixels().tolist() == picture(rows).tolist()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.5, 0.98]))
def test_every_mask_is_read_as_it_was_written(height: int, width: int, seed: int, share: float) -> None:
    pixels = np.random.default_rng(seed).random((height, width)) < share
    mask = of_pixels(pixels)
    assert mask.to_bytes() == encoded(pixels)
    assert mask.counts == rle.encode(pixels).counts  # what locators write is what is stored
    assert Mask.from_bytes(mask.to_bytes()) == mask
    assert (mask.pixels() == pixels).all()
    assert mask.share() == pytest.approx(pixels.mean())
    other = np.random.default_rng(seed + 1).random((height, width)) < share
    assert union([mask.stretches(), of_pixels(other).stretches()]) == (pixels | other).sum()
    assert (mask.resized(2 * height, 3 * width).pixels()[::2, 1::3] == pixels).all()


def test_long_runs_take_several_characters() -> None:
    pixels = np.zeros((1000, 1000), dtype=np.bool_)
    pixels[:, 400:401] = True
    pixels[17, 900] = True
    mask = of_pixels(pixels)
    assert mask.to_bytes() == encoded(pixels)
    assert mask.coco() == {"size": [1000, 1000], "counts": mask.counts}
    assert (mask.pixels() == pixels).all()
    assert mask.share() == pytest.approx(1001 / 1e6)


@pytest.mark.parametrize("counts", ["", "P", "0", "o" * 30 + "0", "0@", "<1"])
def test_damaged_runs_are_refused(counts: str) -> None:
    with pytest.raises(ValueError, match="run"):
        Mask(3, 4, counts).stretches()


@pytest.mark.parametrize("stored", [b"", b"3x4", b"3x4 p", b"3x4  <", b"0x4 <", b"3x4 <\n", b"-3x4 <", b"9999999x4 <"])
def test_bytes_of_another_form_are_refused(stored: bytes) -> None:
    with pytest.raises(ValueError, match="HEIGHTxWIDTH"):
        Mask.from_bytes(stored)

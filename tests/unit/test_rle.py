"""Masks as run-length encoding are those of COCO's own tools, and come back as they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ram_core.errors import ImageError
from ram_core.localization.rle import RLE, encode


def drawn(name: str) -> np.ndarray:
    mask = np.zeros((5, 7), dtype=bool)
    rows, columns = np.mgrid[:60, :90]
    if name == "full":
        mask[:] = True
    if name == "rectangle":
        mask[1:4, 2:5] = True
    if name == "corners":
        mask[0, 0] = mask[4, 6] = True
    if name == "ellipse":
        return ((rows - 30) ** 2 / 400 + (columns - 40) ** 2 / 900) < 1
    if name == "chessboard":
        return ((rows + columns) % 2 == 0)[:6, :6]
    return mask


@pytest.mark.parametrize(
    ("name", "counts"),
    [  # what pycocotools 2.0.11 makes of them
        ("empty", "S1"),
        ("full", "0S1"),
        ("rectangle", ";320009"),
        ("corners", "01Q10"),
        (
            "ellipse",
            "]e0;_14M2N2M4N0O2N2N2O0O2O0O2O0O2O0O2O00000O2O0"
            + 34 * "0"
            + "1N1000001N101N101N101N101N2N2N102L3N2N3LiT1",
        ),
        ("chessboard", "01100010O0010O0010O0010O0010O000"),
    ],
)
def test_the_text_is_that_of_pycocotools(name: str, counts: str) -> None:
    mask = drawn(name)
    rle = encode(mask)
    assert rle.counts == counts
    assert rle.coco() == {"size": list(mask.shape), "counts": counts}


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.booleans()))
def test_a_mask_comes_back(mask: np.ndarray) -> None:
    rle = encode(mask)
    assert (rle.decode() == mask).all()
    assert rle.area == mask.sum()


def test_long_runs_come_back() -> None:
    mask = np.zeros((3000, 4000), dtype=bool)
    mask[1500:, 2000:] = True
    assert (encode(mask).decode() == mask).all()


def test_a_resized_mask_covers_the_same_part() -> None:
    mask = np.zeros((50, 80), dtype=bool)
    mask[10:30, 20:60] = True
    large = encode(mask).resized(500, 800).decode()
    assert large[100:300, 200:600].all()
    assert large.sum() == 200 * 400
    assert (encode(large).resized(50, 80).decode() == mask).all()


@pytest.mark.parametrize("counts", ["S", "~1", "é", "51", "S2", "O"])
def test_damaged_text_is_refused_in_one_line(counts: str) -> None:
    with pytest.raises(ImageError):
        RLE(5, 7, counts).decode()


def test_only_masks_are_encoded() -> None:
    with pytest.raises(ImageError, match="not bool"):
        encode(np.zeros((3, 3), dtype=np.uint8))  # type: ignore[arg-type]

"""Every picture that is read is the one that another decoder reads, within a bound."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from ram_core.errors import UnreadableImageError
from ram_core.pictures import MAX_PIXELS
from tests import second_decoder
from tests.photographs import photographs
from workers.pipeline.decode import guard_pillow

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = Path(os.environ.get("RAMQ_SHARED_DIR", Path(__file__).parents[3] / "shared")) / "cases" / "images"
GROUNDS = {"50-black-drawing-on-nothing.png", "53-anim-first-empty.webp", "54-anim-first-black.gif"}
"""libvips shows the first frame, and puts drawings on white."""


@pytest.fixture(autouse=True)
def _guarded() -> Iterator[None]:
    before = Image.MAX_IMAGE_PIXELS
    guard_pillow(MAX_PIXELS)
    yield
    Image.MAX_IMAGE_PIXELS = before


@pytest.mark.parametrize("name", second_decoder.written())
def test_a_picture_in_any_format_and_mode_is_what_libvips_reads(name: str) -> None:
    found = second_decoder.compare(second_decoder.written()[name])
    assert found is not None
    assert found.is_bounded, found


@pytest.mark.slow
def test_photographs_are_what_libvips_reads() -> None:
    for path in photographs(20)[::8]:
        found = second_decoder.compare(path.read_bytes())
        assert found is not None, path
        assert found.is_bounded, (path, found)


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not at hand")
def test_the_cases_that_are_read_are_what_libvips_reads() -> None:
    compared = set()
    for path in sorted(CASES.iterdir()):
        if path.name in GROUNDS:
            continue
        try:
            found = second_decoder.compare(path.read_bytes())
        except UnreadableImageError as error:
            assert error.reason == "unsupported", path  # noqa: PT017
            continue
        if found is not None:
            compared.add(path.name)
            assert found.is_bounded, (path, found)
    assert {"31-grey-12-in-16.png", "33-rgb-12-in-16.tif", "60-prophoto.jpg", "61-rotated-channels.jpg"} <= compared


def test_a_dropped_profile_and_a_shifted_picture_would_be_noticed() -> None:
    body = second_decoder.written()["PNG profile"]
    plain = second_decoder.written()["PNG RGB"]
    apart = np.abs(second_decoder.theirs(body).astype(int) - second_decoder.theirs(plain))
    assert not second_decoder.Difference(float(apart.mean()), int(apart.max()), float((apart > 24).mean())).is_bounded
    moved = np.abs(np.roll(second_decoder.theirs(plain), 3, axis=1).astype(int) - second_decoder.theirs(plain))
    assert not second_decoder.Difference(float(moved.mean()), int(moved.max()), float((moved > 24).mean())).is_bounded

"""Colours that a file declares by numbers: converted to sRGB as a profile of the same colours is, or refused."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from ram_core.opening.code_points import CodePoints, in_srgb
from ram_core.transforms import ReadingTransform
from tests import poison, profiles
from workers.pipeline.decode import decode
from workers.pipeline.retry import TooManyPixelsError, UnsupportedImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PIXELS = 50_000_000
WHOLE = ReadingTransform()
P3, REC_2020, SRGB, PQ, HLG = 12, 9, 1, 16, 18
CURVE_OF_SRGB = 13


def colours() -> Image.Image:
    """Every colour of a grid."""
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(18 * 3, -1, 3))


def with_numbers(body: bytes, primaries: int, transfer: int) -> bytes:
    """A PNG, HEIC or AVIF with its colours declared."""
    if body.startswith(b"\x89PNG"):
        chunk = b"cICP" + bytes([primaries, transfer, 0, 1])
        return body[:33] + (4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + body[33:]
    at = body.index(b"colrnclx") + 8
    return body[:at] + primaries.to_bytes(2, "big") + transfer.to_bytes(2, "big") + body[at + 4 :]


def shown(body: bytes) -> NDArray[np.int64]:
    return decode(body, WHOLE, MAX_PIXELS).pixels.astype(np.int64)


def test_a_png_in_display_p3_is_shown_as_with_the_profile() -> None:
    declared = shown(with_numbers(poison.encoded(colours(), "PNG"), P3, CURVE_OF_SRGB))
    profiled = shown(poison.encoded(colours(), "PNG", icc_profile=profiles.display_p3()))
    assert np.abs(declared - np.asarray(colours())).max() > 20
    assert np.abs(declared - profiled).mean() < 0.5
    assert np.quantile(np.abs(declared - profiled), 0.99) <= 2


@pytest.mark.parametrize("write", [poison.heic, lambda image: poison.encoded(image, "AVIF", quality=100)])
def test_heic_and_avif_in_display_p3_are_converted(write: object) -> None:
    image = Image.new("RGB", (64, 64), (60, 200, 40))
    body = write(image)  # type: ignore[operator]
    plain, declared = shown(body)[32, 32], shown(with_numbers(body, P3, CURVE_OF_SRGB))[32, 32]
    wanted = in_srgb(CodePoints(P3, CURVE_OF_SRGB), plain.astype(np.uint8)[None, None])[0, 0]
    assert np.abs(declared - wanted).max() <= 1
    assert np.abs(declared - plain).max() > 10


def test_what_is_declared_as_srgb_keeps_its_pixels() -> None:
    for primaries, transfer in ((SRGB, CURVE_OF_SRGB), (2, 2), (SRGB, 1)):
        found = shown(with_numbers(poison.encoded(colours(), "PNG"), primaries, transfer))
        assert np.array_equal(found, np.asarray(colours()))


def test_a_profile_counts_before_numbers_but_in_a_png() -> None:
    image = Image.new("RGB", (64, 64), (60, 200, 40))
    profile = profiles.exchanged()
    avif = poison.encoded(image, "AVIF", quality=100, icc_profile=profile)
    if b"colrnclx" in avif:
        assert np.abs(shown(with_numbers(avif, P3, CURVE_OF_SRGB)) - shown(avif)).max() == 0
    png = with_numbers(poison.encoded(image, "PNG", icc_profile=profile), P3, CURVE_OF_SRGB)
    assert np.array_equal(shown(png), shown(with_numbers(poison.encoded(image, "PNG"), P3, CURVE_OF_SRGB)))


@pytest.mark.parametrize(("transfer", "paper"), [(PQ, 0.58), (HLG, 0.75)])
def test_high_dynamic_range_has_white_paper_bright_black_black_and_highlights_white(
    transfer: int, paper: float
) -> None:
    levels = np.array([0.0, 0.25 * paper, 0.5 * paper, paper, 0.95], dtype=np.float64)
    grey = np.rint(levels * 255).astype(np.uint8)[None, :, None].repeat(3, axis=2)
    found = in_srgb(CodePoints(REC_2020, transfer), grey)[0].astype(int)
    assert np.abs(found - found[:, :1]).max() <= 1  # grey stays grey
    assert (np.diff(found[:, 0]) > 0).all()
    assert found[0, 0] == 0
    assert 170 <= found[3, 0] <= 235
    assert found[4, 0] >= 240


def test_a_png_in_high_dynamic_range_is_read_as_such() -> None:
    image = Image.fromarray(np.full((64, 64, 3), 148, dtype=np.uint8))  # paper in PQ
    found = shown(with_numbers(poison.encoded(image, "PNG"), REC_2020, PQ))
    assert 170 <= found[0, 0, 0] <= 235


@pytest.mark.parametrize(("primaries", "transfer"), [(10, 13), (1, 12), (200, 13), (11, 17)])
def test_other_colours_are_refused_with_their_numbers(primaries: int, transfer: int) -> None:
    with pytest.raises(UnsupportedImageError, match=f"primaries {primaries} and transfer {transfer}"):
        shown(with_numbers(poison.encoded(colours(), "PNG"), primaries, transfer))


def test_a_transparent_png_with_numbers_is_put_on_white() -> None:
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((60, 200, 40, 255), (0, 0, 32, 64))
    found = shown(with_numbers(poison.encoded(image, "PNG"), P3, CURVE_OF_SRGB))
    assert (found[32, 60] >= 254).all()


@pytest.mark.parametrize("size", [(40_000, 40_000), (20_000, 9_000)])
def test_heic_that_says_it_is_larger_than_the_limit_is_too_large(size: tuple[int, int]) -> None:
    body = poison.heic(poison.scene())
    at = body.index(b"ispe") + 8
    lying = body[:at] + b"".join(side.to_bytes(4, "big") for side in size) + body[at + 8 :]
    with pytest.raises(TooManyPixelsError, match="exceed the limit"):
        decode(lying, WHOLE, MAX_PIXELS)

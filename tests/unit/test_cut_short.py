"""Files that are cut short: refused, or read as far as they go."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFile

from ram_core.opening.cut import LEAST_SHARE
from ram_core.transforms import ReadingTransform, SquashTransform
from tests import cameras
from workers.pipeline.decode import decode, decode_for_all
from workers.pipeline.decoders import Decoders
from workers.pipeline.retry import TruncatedImageError

MAX_PIXELS = 50_000_000
WHOLE = ReadingTransform()


def encoded(format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    cameras.scene(400, 300).save(buffer, format_, **options)
    return buffer.getvalue()


def far(body: bytes, share: float = 0.8) -> bytes:
    """The beginning of a file."""
    return body[: int(share * len(body))]


ROW_BY_ROW = ("JPEG", "PNG", "BMP", "PPM", "TIFF")


@pytest.mark.parametrize("format_", ROW_BY_ROW)
def test_a_file_that_is_cut_short_is_read_as_far_as_it_goes(format_: str) -> None:
    body = encoded(format_)
    with pytest.raises(TruncatedImageError):
        decode(far(body), WHOLE, MAX_PIXELS)
    found = decode_for_all(far(body), [WHOLE], MAX_PIXELS, reads_truncated=True)[0]
    assert (found.width, found.height) == (400, 300)
    assert found.share is not None
    assert LEAST_SHARE < found.share < 1
    rows = int(found.share * 300) - 24  # the last blocks of a JPEG may be read in part
    whole = decode(body, WHOLE, MAX_PIXELS).pixels
    part = slice(300 - rows, 300) if format_ == "BMP" else slice(0, rows)  # BMP begins at the bottom
    assert np.array_equal(found.pixels[part], whole[part])


@pytest.mark.parametrize("format_", ROW_BY_ROW)
def test_a_whole_file_is_not_said_to_be_cut(format_: str) -> None:
    found = decode_for_all(encoded(format_), [WHOLE], MAX_PIXELS, reads_truncated=True)[0]
    assert found.share is None
    assert np.array_equal(found.pixels, decode(encoded(format_), WHOLE, MAX_PIXELS).pixels)


def test_less_than_half_of_the_rows_is_not_enough() -> None:
    with pytest.raises(TruncatedImageError, match=r"30% of its rows can be read, and 50% are needed"):
        decode_for_all(far(encoded("BMP"), 0.3), [WHOLE], MAX_PIXELS, reads_truncated=True)


def test_a_progressive_jpeg_that_lacks_its_last_scans_has_all_rows_and_is_marked() -> None:
    found = decode_for_all(far(encoded("JPEG", progressive=True), 0.7), [WHOLE], MAX_PIXELS, reads_truncated=True)[0]
    assert found.share is not None
    assert 0.99 < found.share < 1  # 1 is that of whole pictures


def test_rows_that_are_not_stored_in_order_are_refused() -> None:
    pixels = np.asarray(cameras.scene(64, 48).convert("P"))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "GIF")
    with pytest.raises(TruncatedImageError):
        decode_for_all(far(buffer.getvalue(), 0.9), [WHOLE], MAX_PIXELS, reads_truncated=True)


def test_the_switch_for_it_is_back_as_it_was() -> None:
    decode_for_all(far(encoded("JPEG")), [WHOLE], MAX_PIXELS, reads_truncated=True)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_part_of_a_jpeg_at_a_reduced_scale_has_the_same_share() -> None:
    buffer = io.BytesIO()
    cameras.scene(2400, 1800).save(buffer, "JPEG")
    small, large = decode_for_all(
        far(buffer.getvalue(), 0.7), [SquashTransform(64), WHOLE], MAX_PIXELS, reads_truncated=True
    )
    assert small.share == pytest.approx(large.share, abs=0.02)


def test_decoding_processes_do_as_they_are_told() -> None:
    body = far(encoded("JPEG"))
    refusing, reading = Decoders(1, MAX_PIXELS), Decoders(1, MAX_PIXELS, reads_truncated=True)
    try:
        with pytest.raises(TruncatedImageError):
            refusing.decode(body, WHOLE)
        found = reading.decode(body, WHOLE)
        assert found.share == pytest.approx(
            decode_for_all(body, [WHOLE], MAX_PIXELS, reads_truncated=True)[0].share, abs=1e-6
        )
        assert reading.decode(encoded("JPEG"), WHOLE).share is None
    finally:
        refusing.close()
        reading.close()


def test_pages_behind_the_first_one_are_counted() -> None:
    buffer = io.BytesIO()
    pages = [cameras.scene(64, 48) for _ in range(3)]
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    assert decode(buffer.getvalue(), WHOLE, MAX_PIXELS).pages == 3
    assert decode(encoded("TIFF"), WHOLE, MAX_PIXELS).pages == 1

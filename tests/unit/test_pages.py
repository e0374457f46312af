"""Pages of TIFF and PDF files: which there are, and what each shows."""

from __future__ import annotations

import builtins
import io
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from ram_core import metadata
from ram_core.errors import UnreadableImageError
from ram_core.opening import pdf
from ram_core.opening.pages import may_have_pages
from ram_core.pictures import decode_for_all
from tests import scans
from workers.pipeline.decode import ThumbnailTransform
from workers.pipeline.decoders import Decoders

if TYPE_CHECKING:
    from ram_core.pictures import Decoded


def decoded(body: bytes, page: int = 1, max_pixels: int = 10_000_000) -> Decoded:
    return decode_for_all(body, [ThumbnailTransform(4_096)], max_pixels, page=page)[0]


def refused(body: bytes, page: int = 1) -> UnreadableImageError:
    with pytest.raises(UnreadableImageError) as error:
        decoded(body, page)
    return error.value


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_each_page_of_a_tiff_is_read(compression: str) -> None:
    body = scans.tiff([1, 2, 3], compression=compression)
    for page in (1, 2, 3):
        shown = decoded(body, page)
        assert shown.pages == 3
        assert (shown.pixels == np.asarray(scans.page(page))).all()
    error = refused(body, 4)
    assert (error.reason, error.pages) == ("no_page", 3)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_pages_differ_in_size_depth_and_meaning_of_samples(big: bool, order: Any) -> None:
    if big and order == ">":
        pytest.skip("a big-endian BigTIFF is refused as a whole")
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=big, byteorder=order) as writer:
        writer.write(np.full((30, 40, 3), 200, np.uint8), photometric="rgb")
        writer.write(np.full((50, 20), 60_000, np.uint16), photometric="minisblack")
        writer.write(np.zeros((8, 16), np.bool_), photometric="miniswhite")
    sizes = [(one.width, one.height) for one in (decoded(buffer.getvalue(), page) for page in (1, 2, 3))]
    assert sizes == [(40, 30), (20, 50), (16, 8)]
    assert decoded(buffer.getvalue(), 3).pixels.min() == 255


def test_smaller_versions_and_masks_are_no_pages() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(np.full((4, 4, 3), 9, np.uint8), photometric="rgb", subfiletype=1)
        writer.write(np.full((40, 40, 3), 10, np.uint8), photometric="rgb", subifds=1)
        writer.write(np.full((20, 20, 3), 11, np.uint8), photometric="rgb", subfiletype=1)
        writer.write(np.full((40, 40), 1, np.bool_), photometric="miniswhite", subfiletype=4)
        writer.write(np.full((30, 30, 3), 20, np.uint8), photometric="rgb", subfiletype=2)
    body = buffer.getvalue()
    first, second = decoded(body), decoded(body, 2)
    assert (first.pages, first.width, first.pixels[0, 0, 0]) == (2, 40, 10)
    assert (second.pages, second.width, second.pixels[0, 0, 0]) == (2, 30, 20)


def test_a_file_of_smaller_versions_alone_is_read_by_the_first() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(np.full((4, 4, 3), 9, np.uint8), photometric="rgb", subfiletype=1)
    assert (decoded(buffer.getvalue()).pages, decoded(buffer.getvalue()).width) == (1, 4)


def test_a_white_page_is_a_page() -> None:
    buffer = io.BytesIO()
    white = Image.new("L", (40, 30), 255)
    white.save(buffer, "TIFF", save_all=True, append_images=[white, scans.page(1)])
    assert [decoded(buffer.getvalue(), page).pages for page in (1, 2, 3)] == [3, 3, 3]


def test_directories_in_a_circle_end() -> None:
    body = bytearray(scans.tiff([1]))
    order = "little" if body[:2] == b"II" else "big"
    at = int.from_bytes(body[4:8], order)  # type: ignore[arg-type]
    count = int.from_bytes(body[at : at + 2], order)  # type: ignore[arg-type]
    body[at + 2 + 12 * count : at + 6 + 12 * count] = at.to_bytes(4, order)  # type: ignore[arg-type]
    shown = decoded(bytes(body))
    assert (shown.pages, shown.share) == (1, 1)


@pytest.mark.parametrize("big", [False, True])
def test_of_a_tiff_that_is_cut_short_the_pages_that_are_left_are_read_and_the_first_says_so(big: bool) -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=big) as writer:
        for seed in range(5):
            writer.write(np.asarray(scans.page(seed)), photometric="rgb")
    body = buffer.getvalue()
    assert [decoded(body, page).share for page in (1, 5)] == [None, None]
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as file:
        fourth = file.pages[3].offset  # type: ignore[union-attr]
    for cut in (body[:fourth], body[: fourth + 5], body[:fourth] + bytes(len(body) - fourth)):
        assert [(decoded(cut, page).pages, decoded(cut, page).share) for page in (1, 2)] == [(3, 1.0), (3, None)]


def test_the_failure_of_a_first_page_says_that_pages_behind_it_cannot_be_read() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(np.zeros((20, 20, 3), np.float32), photometric="rgb")
        writer.write(np.full((20, 20, 3), 70, np.uint8), photometric="rgb")
        writer.write(np.full((20, 20, 3), 80, np.uint8), photometric="rgb")
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as file:
        cut = buffer.getvalue()[: file.pages[2].offset]  # type: ignore[union-attr]
    error = refused(cut)
    assert (error.reason, error.pages) == ("unsupported", 2)
    assert "pages behind page 2 cannot be read" in str(error)
    assert decoded(cut, 2).share is None


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_frames_of_animations_are_no_pages(kind: str) -> None:
    buffer = io.BytesIO()
    scans.page(1).save(buffer, kind, save_all=True, append_images=[scans.page(2)])
    assert not may_have_pages(buffer.getvalue())
    assert decoded(buffer.getvalue()).pages == 1
    assert refused(buffer.getvalue(), 2).reason == "no_page"


def test_each_page_of_a_pdf_is_drawn() -> None:
    body = scans.pdf([1, 2, 3])
    assert may_have_pages(body)
    for page in (1, 2, 3):
        shown = decoded(body, page)
        assert (shown.pages, max(shown.width, shown.height)) == (3, pdf.SHORTEST)
        small = Image.fromarray(shown.pixels).resize((8, 6), Image.Resampling.BOX)
        drawn = scans.page(page).resize((8, 6), Image.Resampling.BOX)
        assert np.abs(np.asarray(small, np.int16) - np.asarray(drawn, np.int16)).mean() < 12
    error = refused(body, 4)
    assert (error.reason, error.pages) == ("no_page", 3)


def test_pages_of_any_size_are_drawn_within_bounds() -> None:
    body = scans.empty_pdf([(595, 842), (14_400, 14_400), (3, 14_400), (10, 10)])
    sizes = [(one.width, one.height) for one in (decoded(body, page, 20_000_000) for page in (1, 2, 3, 4))]
    assert sizes == [(1_653, 2_339), (4_096, 4_096), (1, 4_096), (1_024, 1_024)]
    assert (decoded(body, 1).pixels == 255).all()
    with pytest.raises(UnreadableImageError, match="exceed the limit"):
        decoded(body, 2, max_pixels=1_000_000)


def test_encrypted_and_broken_pdfs_are_refused_with_words() -> None:
    assert "encrypted and needs a password" in str(refused(scans.encrypted_pdf()))
    assert refused(scans.encrypted_pdf()).reason == "unsupported"
    broken = refused(b"%PDF-1.4\n% nothing")
    assert (broken.reason, str(broken)) == ("corrupt", "the PDF file is damaged, or has no pages")


def test_without_the_package_the_failure_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any, **others: Any) -> Any:
        if name == "pypdfium2":
            raise ImportError(name)
        return real(name, *more, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    error = refused(scans.pdf([1]))
    assert error.reason == "unsupported"
    assert "pip install 'ramq[pdf]'" in str(error)


def test_children_read_pages_from_an_open_file(tmp_path: Any) -> None:
    decoders = Decoders(1, 10_000_000)
    try:
        for name, body in (("a.tif", scans.tiff([1, 2])), ("a.pdf", scans.pdf([1, 2]))):
            (tmp_path / name).write_bytes(body)
            with (tmp_path / name).open("rb") as file:
                [shown], _ = decoders.read_for_all(body, [ThumbnailTransform(64)], page=2, descriptor=file.fileno())
            assert shown.pages == 2
            assert (tmp_path / name).read_bytes() == body
            with pytest.raises(Exception, match="no page 3") as error:
                decoders.decode(body, ThumbnailTransform(64), page=3)
            assert error.value.pages == 2  # type: ignore[attr-defined]
    finally:
        decoders.close()


def test_what_a_pdf_says_of_itself_is_read() -> None:
    decoders = Decoders(1, 10_000_000)
    try:
        facts = decoders.read_for_all(scans.told_pdf(), [ThumbnailTransform(64)])[1]
    finally:
        decoders.close()
    assert (facts.title, facts.creator, facts.description) == ("To Anna", "Ben", "a letter")
    assert facts.keywords == ("post", "1912", "Vienna")
    assert (facts.taken_at, facts.taken_offset) == (datetime(1912, 3, 4, 5, 6, 7), 60)  # noqa: DTZ001  (local)
    for body in (scans.encrypted_pdf(), b"%PDF-1.4", scans.empty_pdf([(9, 9)])):
        assert metadata.read(body) == metadata.FileFacts()

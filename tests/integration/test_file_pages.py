"""Pages of TIFF and PDF files are images of their own, if a job wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import scans
from tests.same_picture import Photos, picture

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


@pytest.fixture
def photos(services: Services, crop_worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Photos:
    """A picture, a letter of three pages and a catalogue of four."""
    monkeypatch.setenv("NULL_MODEL_COUNT", str(tmp_path / "count"))
    root = tmp_path / "photos"
    picture(root / "a.png", 1)
    scans.tiff([10, 11, 12], root / "letter.tif")
    scans.pdf([20, 21, 22, 23], root / "list.pdf")
    return Photos(services, crop_worker, root, tmp_path / "count")


def counts(job: JobView) -> tuple[int, int, int, int]:
    assert job.state == "done"
    assert job.listed == job.done + job.skipped + job.failed
    return job.listed, job.done, job.skipped, job.failed


def pages(name: str, *numbers: int) -> list[str]:
    return [name, *(f"{name}/page-{number:05d}" for number in numbers)]


ALL = ["a.png", *pages("letter.tif", 2, 3), *pages("list.pdf", 2, 3, 4)]


def test_without_the_option_a_file_is_one_image(photos: Photos) -> None:
    assert counts(photos.run()) == (3, 3, 0, 0)
    assert sorted(photos.ids()) == ["a.png", "letter.tif", "list.pdf"]


def test_each_page_is_an_image(photos: Photos) -> None:
    job = photos.run(pages=True)
    assert counts(job) == (8, 8, 0, 0)
    assert sorted(photos.ids()) == ALL
    shown = photos.services.images.get(photos.ids()["list.pdf/page-00003"])
    assert (shown.pages, shown.version.partition("@")[0]) == (4, "page=3")


def test_a_later_job_skips_what_is_done(photos: Photos) -> None:
    photos.run(pages=True)
    assert counts(photos.run(pages=True)) == (8, 0, 8, 0)
    assert counts(photos.run()) == (3, 0, 3, 0)
    assert photos.missing() == []


def test_pages_come_to_files_that_were_recognised_without(photos: Photos) -> None:
    photos.run()
    assert counts(photos.run(pages=True)) == (8, 5, 3, 0)
    assert sorted(photos.ids()) == ALL


def test_of_a_changed_file_the_pages_are_done_again_and_those_that_are_gone_are_missing(photos: Photos) -> None:
    photos.run(pages=True)
    before = photos.ids()
    scans.tiff([10, 31], photos.root / "letter.tif")
    assert counts(photos.run(pages=True)) == (7, 2, 5, 0)
    assert photos.missing() == ["letter.tif/page-00003"]
    assert photos.ids()["letter.tif/page-00002"] == before["letter.tif/page-00002"]
    scans.tiff([10, 31, 40, 41], photos.root / "letter.tif")
    assert counts(photos.run(pages=True)) == (9, 4, 5, 0)
    assert photos.missing() == []


def test_pages_are_missing_if_their_file_is(photos: Photos) -> None:
    photos.run(pages=True)
    (photos.root / "list.pdf").unlink()
    photos.run(pages=True)
    assert photos.missing() == pages("list.pdf", 2, 3, 4)
    scans.pdf([20, 21, 22, 23], photos.root / "list.pdf")
    photos.run(pages=True)
    assert photos.missing() == []


def test_pages_keep_their_numbers_when_their_file_moves(photos: Photos) -> None:
    photos.run(pages=True)
    before = photos.ids()
    (photos.root / "old").mkdir()
    (photos.root / "letter.tif").rename(photos.root / "old/mail.tif")
    photos.run(pages=True)
    assert photos.missing() == []
    after = photos.ids()
    assert [after[key] for key in pages("old/mail.tif", 2, 3)] == [before[key] for key in pages("letter.tif", 2, 3)]

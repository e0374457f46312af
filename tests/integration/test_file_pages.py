"""Pages of TIFF and PDF files are images of their own, if a job wants them."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from PIL import Image
from sqlalchemy import select

from storage.database import unit_of_work
from storage.ledger import jobs as ledger_jobs
from storage.search.views import SearchQuery
from storage.tables import Archive
from tests import crop_archive, scans
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


def test_pages_that_a_worker_found_are_counted_for_the_day(photos: Photos) -> None:
    photos.run(pages=True)
    assert photos.services.quotas.of("local").images_today == 8
    photos.run(pages=True)
    assert photos.services.quotas.of("local").images_today == 8


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


def test_pages_say_which_they_are_and_lead_to_their_neighbours(photos: Photos) -> None:
    photos.run(pages=True)
    ids = photos.ids()
    of_list = [photos.services.images.get(ids[key]) for key in pages("list.pdf", 2, 3, 4)]
    assert [(one.page, one.pages, one.file_key, one.page_images) for one in of_list] == [
        (number, 4, "list.pdf", 4) for number in (1, 2, 3, 4)
    ]
    numbers = [None, *(one.image_id for one in of_list), None]
    assert [(one.previous_page, one.next_page) for one in of_list] == list(zip(numbers, numbers[2:], strict=False))
    alone = photos.services.images.get(ids["a.png"])
    assert (alone.page, alone.pages, alone.file_key) == (None, None, "a.png")


def test_searches_find_the_pages_of_a_file_in_order(photos: Photos) -> None:
    photos.run(pages=True)
    search = photos.services.search
    found = search.page(search.read(SearchQuery(limit=100), "prefix:list.pdf", is_strict=True)).items
    assert sorted((hit.key, hit.page, hit.pages, hit.file_key) for hit in found) == [
        (key, number, 4, "list.pdf") for number, key in enumerate(pages("list.pdf", 2, 3, 4), 1)
    ]


def test_thumbnails_show_the_page_and_originals_are_the_file(photos: Photos) -> None:
    photos.run(pages=True)
    images, ids = photos.services.images, photos.ids()
    for name, seeds in (("letter.tif", (10, 11, 12)), ("list.pdf", (20, 21, 22, 23))):
        for seed, key in zip(seeds, pages(name, *range(2, len(seeds) + 1)), strict=True):
            shown = Image.open(io.BytesIO(images.thumbnail(ids[key], 64)[0])).convert("RGB").resize((8, 6))
            drawn = scans.page(seed).resize((8, 6), Image.Resampling.BOX)
            assert np.abs(np.asarray(shown, np.int16) - np.asarray(drawn, np.int16)).mean() < 25
            assert images.content(ids[key]) == (photos.root / name).read_bytes()


def test_one_page_and_all_pages_of_a_file_can_be_deleted(photos: Photos) -> None:
    photos.run(pages=True)
    photos.services.erasures.delete(["list.pdf/page-00003"])
    assert sorted(photos.ids()) == [key for key in ALL if key != "list.pdf/page-00003"]
    assert counts(photos.run(pages=True)) == (8, 1, 7, 0)
    photos.services.erasures.delete(["list.pdf"])
    photos.services.erasures.delete_below("letter.tif")
    assert sorted(photos.ids()) == ["a.png"]
    assert counts(photos.run(pages=True)) == (8, 7, 1, 0)
    assert sorted(photos.ids()) == ALL


def test_a_file_becomes_at_most_so_many_images_and_the_report_counts_the_rest(
    photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos.worker, "_options", replace(photos.worker._options, most_pages=2, shard_size=1))
    job = photos.run(pages=True)
    assert counts(job) == (5, 5, 0, 0)
    assert sorted(photos.ids()) == ["a.png", *pages("letter.tif", 2), *pages("list.pdf", 2)]
    report = photos.services.jobs.report(job.id)
    assert (report.pages_left_out, report.first_pages) == (3, 0)
    assert report.lines == report.listed == 5


def test_bad_files_and_bad_pages_fail_with_words(photos: Photos) -> None:
    (photos.root / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing of a PDF file")
    job = photos.run(pages=True)
    assert counts(job) == (9, 8, 0, 1)
    [failure] = photos.services.jobs.failures(job.id).items
    assert (failure.key, failure.error_class) == ("broken.pdf", "corrupt")
    assert counts(photos.run(pages=True)) == (9, 0, 9, 0)


def test_copies_of_files_take_over_the_results_of_their_pages(photos: Photos) -> None:
    photos.run(pages=True)
    photos.asked  # noqa: B018  (counted from here on)
    shutil.copy(photos.root / "list.pdf", photos.root / "again.pdf")
    job = photos.run(pages=True)
    assert (counts(job), job.copied) == ((12, 4, 8, 0), 3)
    assert photos.asked == 1  # the first page, whose file had to be opened
    assert {key for key in photos.ids() if key.startswith("again.pdf")} == set(pages("again.pdf", 2, 3, 4))


def test_further_stages_get_the_pages_too(photos: Photos) -> None:
    job = photos.services.jobs.create(str(photos.root), pages=True)
    with unit_of_work(photos.services.engine) as session:
        archive = session.get_one(Archive, session.scalars(select(Archive.id)).one())
        follower = ledger_jobs.create(
            session, archive=archive, source=job.source, prefix="", model="metadata", captioner="none",
            priority="normal", stage="metadata", with_job_id=job.id,
        )  # fmt: skip
    ended = crop_archive.work(photos.services, photos.worker, job)
    assert counts(ended) == (8, 8, 0, 0)
    assert photos.services.jobs.get(follower).listed in {0, 8}


def test_pages_behind_a_bad_first_one_are_read_and_a_retry_counts_none_twice(photos: Photos) -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(np.zeros((20, 20, 3), np.float32), photometric="rgb")
        writer.write(np.full((20, 20, 3), 70, np.uint8), photometric="rgb")
        writer.write(np.zeros((20, 20, 3), np.float32), photometric="rgb")
    (photos.root / "odd.tif").write_bytes(buffer.getvalue())
    job = photos.run(pages=True)
    assert (counts(job), job.failures_by_class) == ((11, 9, 0, 2), {"unsupported": 2})
    for error_class in ("unsupported", None):
        retried = crop_archive.work(photos.services, photos.worker, photos.services.jobs.retry(job.id, error_class))
        assert (counts(retried), retried.failures_by_class) == ((11, 9, 0, 2), {"unsupported": 2})
    assert counts(photos.run(pages=True)) == (11, 0, 11, 0)


def test_pdfs_that_a_job_without_pages_refused_are_opened_once_more(
    photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos.root / "locked.pdf").write_bytes(scans.encrypted_pdf())
    assert photos.run().failures_by_class == {"unsupported": 1}
    asked = photos.run(pages=True)
    assert (counts(asked), asked.failures_by_class) == ((9, 5, 3, 1), {"unsupported": 1})
    assert counts(photos.run(pages=True)) == (9, 0, 9, 0)

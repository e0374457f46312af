"""Files that trade names: what people said, and the number of an image, go with the bytes."""

from __future__ import annotations

import os
import shutil

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sqlalchemy import text
from starlette.testclient import TestClient

from ramq.web.app import create_app
from storage.database import unit_of_work
from storage.errors import ConflictError
from storage.results import replaced
from storage.search.views import SearchQuery
from tests import crop_archive
from tests.integration.test_moved_files import move, said, say_everything
from tests.same_picture import Photos, picture

pytestmark = pytest.mark.services


def swap(photos: Photos, one: str, other: str) -> None:
    move(photos, one, "aside")
    move(photos, other, one)
    move(photos, "aside", other)


def test_files_that_trade_names_keep_their_images_and_what_people_said(photos: Photos) -> None:
    services, before = photos.services, photos.ids()
    words = say_everything(photos, before["a.png"])
    services.corrections.tag([before["d.png"]], add=["tag 9"], by="bob")
    records = {key: photos.record(image_id) for key, image_id in before.items()}
    swap(photos, "a.png", "d.png")
    job = photos.run()
    assert (job.state, job.done, job.copied, photos.asked) == ("done", 2, 2, 0)
    after = photos.ids()
    assert after == {"a.png": before["d.png"], "b/c.png": before["b/c.png"], "d.png": before["a.png"]}
    assert photos.missing() == []
    assert said(photos, before["a.png"]) == words
    assert said(photos, before["d.png"])["tags"] == [("tag 9", True, "bob")]
    assert photos.record(before["a.png"]) == records["a.png"]
    assert photos.record(before["d.png"]) == records["d.png"]
    assert [line.text for line in services.readings.get(before["a.png"]).lines] == ["harbour"]
    page = services.search.page(services.search.read(SearchQuery(), '"tag 9"'))
    assert "a.png" in [hit.key for hit in page.items]
    assert services.search.page(SearchQuery()).total == 3
    report = services.jobs.report(job.id)
    assert (report.lines, report.erased, report.done, report.skipped) == (3, 0, 2, 1)
    assert photos.run().skipped == 3


def test_images_of_which_nobody_spoke_keep_their_numbers_when_names_are_traded(photos: Photos) -> None:
    before = photos.ids()
    swap(photos, "a.png", "d.png")
    photos.run()
    assert photos.ids() == {"a.png": before["d.png"], "b/c.png": before["b/c.png"], "d.png": before["a.png"]}
    assert photos.scalar("SELECT count(*) FROM image") == 3


@pytest.mark.parametrize("is_down", [True, False])
def test_a_series_that_is_numbered_anew_keeps_its_images(photos: Photos, *, is_down: bool) -> None:
    for number in range(1, 7):
        picture(photos.root / f"s/{number}.png", number + 10)
    photos.run()
    before = photos.ids()
    for number in range(1, 7):
        photos.services.corrections.tag([before[f"s/{number}.png"]], add=[f"tag {number}"])
    if is_down:  # the first is deleted
        (photos.root / "s/1.png").unlink()
        for number in range(2, 7):
            move(photos, f"s/{number}.png", f"s/{number - 1}.png")
        expected = {f"s/{number - 1}.png": before[f"s/{number}.png"] for number in range(2, 7)}
    else:  # another one comes first
        for number in range(6, 0, -1):
            move(photos, f"s/{number}.png", f"s/{number + 1}.png")
        picture(photos.root / "s/1.png", 99)
        expected = {f"s/{number + 1}.png": before[f"s/{number}.png"] for number in range(1, 7)}
    photos.run()
    after = photos.ids()
    assert expected.items() <= after.items()
    for key, image_id in expected.items():
        number = next(name for name, old in before.items() if old == image_id)[2]
        assert [row[0] for row in said(photos, image_id)["tags"]] == [f"tag {number}"], key
    if is_down:
        assert photos.missing() == [f"s/1.png (replaced, image {before['s/1.png']})"]
        assert [row[0] for row in said(photos, before["s/1.png"])["tags"]] == ["tag 1"]
    else:
        assert photos.missing() == []
        assert said(photos, after["s/1.png"])["tags"] == []


def test_what_was_said_of_a_picture_that_was_written_over_stays_at_an_image_that_is_gone(photos: Photos) -> None:
    image_id = photos.ids()["a.png"]
    words = say_everything(photos, image_id)
    picture(photos.root / "a.png", 50)
    photos.run()
    after = photos.ids()
    assert after["a.png"] != image_id
    assert not any(said(photos, after["a.png"]).values())
    assert said(photos, image_id) == words
    assert photos.missing() == [f"a.png (replaced, image {image_id})"]
    page = photos.services.search.page(SearchQuery())
    assert (page.total, sorted(hit.key for hit in page.items)) == (3, ["a.png", "b/c.png", "d.png"])
    # It comes back from a backup, elsewhere.
    picture(photos.root / "backup/a.png", 0)
    photos.run()
    assert (photos.ids()["backup/a.png"], photos.missing()) == (image_id, [])
    assert said(photos, image_id) == words


def test_a_file_of_which_only_what_it_says_was_changed_keeps_its_image(photos: Photos) -> None:
    image_id = photos.ids()["a.png"]
    words = say_everything(photos, image_id)
    note = PngInfo()
    note.add_text("Comment", "five stars")
    with Image.open(photos.root / "a.png") as opened:
        opened.load()
        opened.save(photos.root / "a.png", pnginfo=note)
    job = photos.run()
    assert (job.done, job.copied) == (1, 0)
    assert (photos.ids()["a.png"], photos.missing()) == (image_id, [])
    assert said(photos, image_id) == words
    assert photos.scalar("SELECT count(*) FROM former_content") == 0


def test_the_next_picture_of_a_burst_is_another_one_however_alike_its_vector_is(
    photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaced, "SAME_PICTURE", -1.0)  # as if all vectors were alike
    image_id = photos.ids()["a.png"]
    words = say_everything(photos, image_id)
    picture(photos.root / "a.png", 50)
    photos.run()
    assert photos.ids()["a.png"] != image_id
    assert said(photos, image_id) == words


def test_a_picture_that_was_written_over_and_of_which_nobody_spoke_keeps_its_image(photos: Photos) -> None:
    before = photos.ids()
    picture(photos.root / "a.png", 50)
    photos.run()
    assert (photos.ids(), photos.missing()) == (before, [])
    assert photos.scalar("SELECT count(*) FROM former_content") == 0


def test_what_was_said_before_the_end_of_the_job_is_of_the_picture_that_was_seen(photos: Photos) -> None:
    services, image_id = photos.services, photos.ids()["a.png"]
    services.corrections.tag([image_id], add=["tag 3"], by="ann")
    picture(photos.root / "a.png", 50)
    job = services.jobs.create(str(photos.root))
    while photos.worker._planner.begin(lambda: False) or photos.worker._planner.go_on(lambda: False):
        pass
    services.jobs.pause(job.id)
    with unit_of_work(services.engine) as session:  # as a batch of the job does that is written last
        session.execute(
            text(
                """INSERT INTO former_content (image_id, archive_id, version, hash)
                   SELECT image_id, 1, version, hash FROM content WHERE image_id = :id"""
            ),
            {"id": image_id},
        )
    with pytest.raises(ConflictError, match="shows another picture than the one of which 'tag 3' was said"):
        services.corrections.tag([image_id], remove=["tag 3"], by="bob")
    services.corrections.tag([image_id], add=["tag 5"], by="bob")
    services.jobs.resume(job.id)
    crop_archive.work(services, photos.worker, services.jobs.get(job.id))
    assert said(photos, image_id)["tags"] == [("tag 3", True, "ann")]
    assert said(photos, photos.ids()["a.png"])["tags"] == [("tag 5", True, "bob")]


def test_a_paused_job_keeps_no_name_from_being_traded(photos: Photos) -> None:
    """Its shard names what is there now, and it goes on with that."""
    services, before = photos.services, photos.ids()
    services.corrections.tag([before["a.png"]], add=["tag 3"], by="ann")
    swap(photos, "a.png", "d.png")
    paused = services.jobs.create(str(photos.root))
    while photos.worker._planner.begin(lambda: False) or photos.worker._planner.go_on(lambda: False):
        pass
    services.jobs.pause(paused.id)
    photos.run()
    assert photos.ids() == {"a.png": before["d.png"], "b/c.png": before["b/c.png"], "d.png": before["a.png"]}
    services.jobs.resume(paused.id)
    job = crop_archive.work(services, photos.worker, services.jobs.get(paused.id))
    assert (job.state, job.done, job.failed, job.skipped) == ("done", 2, 0, 1)
    assert photos.ids() == {"a.png": before["d.png"], "b/c.png": before["b/c.png"], "d.png": before["a.png"]}
    assert [row[0] for row in said(photos, before["a.png"])["tags"]] == ["tag 3"]


def test_a_copy_with_the_old_time_and_size_is_found_out_when_it_is_read(photos: Photos) -> None:
    """A file store tells versions apart by more than the time of the last change."""
    before = photos.ids()
    stat = (photos.root / "a.png").stat()
    shutil.copy(photos.root / "d.png", photos.root / "new")
    os.utime(photos.root / "new", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    (photos.root / "new").rename(photos.root / "a.png")
    photos.services.corrections.tag([before["a.png"]], add=["tag 3"], by="ann")
    photos.run()
    assert said(photos, photos.ids()["a.png"])["tags"] == []


def test_a_paused_job_says_that_moved_files_may_be_among_its_images(photos: Photos) -> None:
    services = photos.services
    paused = services.jobs.create(str(photos.root))
    services.jobs.pause(paused.id)
    assert services.jobs.get(paused.id).note is None
    services.jobs.resume(paused.id)
    move(photos, "a.png", "e.png")
    while photos.worker._planner.begin(lambda: False) or photos.worker._planner.go_on(lambda: False):
        pass
    services.jobs.pause(paused.id)
    assert "Whether they were moved" in (services.jobs.get(paused.id).note or "")
    page = TestClient(create_app(services), base_url="http://localhost")
    assert "Whether they were moved" in page.get(f"/jobs/{paused.id}", headers={"Accept": "text/html"}).text
    services.jobs.resume(paused.id)
    assert crop_archive.work(services, photos.worker, services.jobs.get(paused.id)).note is None
    assert photos.missing() == []


def test_a_job_that_was_cancelled_before_it_read_anything_hides_no_move(photos: Photos) -> None:
    """It has listed the new name of a picture whose old one has another picture now."""
    before = photos.ids()
    move(photos, "a.png", "e.png")
    move(photos, "d.png", "a.png")
    job = photos.services.jobs.create(str(photos.root))
    while photos.worker._planner.begin(lambda: False) or photos.worker._planner.go_on(lambda: False):
        pass
    photos.services.jobs.cancel(job.id)
    photos.run()
    assert photos.ids() == {"a.png": before["d.png"], "b/c.png": before["b/c.png"], "e.png": before["a.png"]}
    assert photos.missing() == []


def test_a_file_that_was_touched_and_moved_before_anybody_read_it_is_a_move(photos: Photos) -> None:
    """What people said, they said of the bytes that were read last; these are elsewhere now."""
    image_id = photos.ids()["a.png"]
    before = say_everything(photos, image_id)
    photos.scalar("UPDATE image SET version = 'touched' WHERE key = 'a.png' RETURNING 1")
    move(photos, "a.png", "e.png")
    photos.run()
    assert (photos.missing(), photos.ids()["e.png"]) == ([], image_id)
    assert said(photos, image_id) == before


def test_a_file_that_was_written_over_and_moved_before_anybody_read_it_is_no_move(photos: Photos) -> None:
    photos.services.corrections.tag([photos.ids()["a.png"]], add=["tag 3"], by="ann")
    picture(photos.root / "a.png", 77)
    move(photos, "a.png", "e.png")
    photos.run()
    assert photos.missing() == ["a.png"]
    assert said(photos, photos.ids()["e.png"])["tags"] == []

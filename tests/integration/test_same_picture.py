"""Images whose bytes were recognised before take over the record, whatever they are called."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ramq.services.index import make_builder
from storage.database import unit_of_work
from storage.index.feature_files import FeatureFiles
from storage.index.file_storage import open_storage
from storage.results import features, same_bytes
from storage.search.views import SearchQuery
from tests import crop_archive
from tests.same_picture import Photos, picture
from tests.services.fleet import client_services
from workers.pipeline import recall

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sqlalchemy.orm import Session

    from ramq.settings import Settings
    from ramq.wiring import Services
    from storage.results.same_bytes import SameBytes
    from tests.services.s3 import S3Server
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


@pytest.fixture
def photos(services: Services, crop_worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Photos:
    """Three pictures, recognised."""
    monkeypatch.setenv("NULL_MODEL_COUNT", str(tmp_path / "count"))
    for number, name in enumerate(("a.png", "b/c.png", "d.png")):
        picture(tmp_path / "photos" / name, number)
    photos = Photos(services, crop_worker, tmp_path / "photos", tmp_path / "count")
    job = photos.run(caption=False)
    assert (job.done, job.copied, photos.asked) == (3, 0, 3)
    return photos


def test_a_touched_file_keeps_its_record_and_is_not_recognised_again(photos: Photos) -> None:
    before = photos.record(photos.ids()["a.png"])
    os.utime(photos.root / "a.png", (1_000_000_000, 1_000_000_000))
    job = photos.run(caption=False)
    assert (job.done, job.copied, job.skipped, photos.asked) == (1, 1, 2, 0)
    assert photos.record(photos.ids()["a.png"]) == before
    assert (
        photos.rows("SELECT FROM record JOIN image ON image.id = image_id WHERE record.version <> image.version") == []
    )
    assert photos.run(caption=False).skipped == 3


def test_a_copied_file_takes_over_the_record_and_everything_in_it(photos: Photos) -> None:
    shutil.copy(photos.root / "a.png", photos.root / "z.png")
    picture(photos.root / "new.png", 99)
    job = photos.run(caption=False)
    assert (job.done, job.copied, job.skipped, photos.asked) == (2, 1, 3, 1)
    ids = photos.ids()
    assert photos.record(ids["z.png"]) == photos.record(ids["a.png"])
    make_builder(photos.services.settings, photos.services.engine).publish_new(1)
    hits = photos.services.search.page(SearchQuery(like=ids["a.png"], limit=1)).items
    assert [hit.image_id for hit in hits] == [ids["z.png"]]


def test_the_caption_of_another_captioner_is_not_taken_over(photos: Photos) -> None:
    shutil.copy(photos.root / "a.png", photos.root / "z.png")
    job = photos.run(caption=True)
    assert (job.done, job.copied) == (4, 0)
    shutil.copy(photos.root / "a.png", photos.root / "y.png")
    assert photos.run(caption=True).copied == 1
    captions = photos.rows(
        "SELECT DISTINCT caption, captioner FROM record JOIN image ON image.id = image_id "
        "WHERE key IN ('a.png', 'y.png', 'z.png')"
    )
    assert [row.captioner for row in captions] == ["template"]


def test_a_touched_file_keeps_the_caption_that_its_job_does_not_ask_for(photos: Photos) -> None:
    photos.run(caption=True)
    caption = photos.scalar("SELECT caption FROM record JOIN image ON image.id = image_id WHERE key = 'a.png'")
    os.utime(photos.root / "a.png", (1_000_000_000, 1_000_000_000))
    assert photos.run(caption=False).copied == 1
    assert photos.record(photos.ids()["a.png"])[3:5] == (caption, "template")


def test_other_bytes_of_the_same_size_are_recognised(photos: Photos) -> None:
    picture(photos.root / "a.png", 77)
    job = photos.run(caption=False)
    assert (job.done, job.copied, photos.asked) == (1, 0, 1)


def test_a_hash_that_is_the_same_by_chance_decides_nothing(photos: Photos) -> None:
    """The whole SHA-256 of a record has to be the same."""
    other = picture(photos.root / "other.png", 5)
    photos.run(caption=False)
    photos.scalar(
        """UPDATE content SET hash = other.hash FROM content AS other, image
           WHERE image.id = other.image_id AND image.key = 'other.png' RETURNING 1"""
    )
    shutil.copy(other, photos.root / "z.png")
    assert photos.asked == 1
    job = photos.run(caption=False)
    assert (job.copied, photos.asked) == (1, 0)
    ids = photos.ids()
    assert photos.record(ids["z.png"]) == photos.record(ids["other.png"]) != photos.record(ids["a.png"])


def test_equal_pictures_of_one_batch_have_equal_records(photos: Photos) -> None:
    for number in range(5):
        shutil.copy(picture(photos.root / "first.png", 50), photos.root / f"copy-{number}.png")
    job = photos.run(caption=False)
    assert (job.done, job.failed, job.pending) == (6, 0, 0)
    assert job.copied + photos.asked == 6
    ids = photos.ids()
    assert len({str(photos.record(ids[f"copy-{number}.png"])) for number in range(5)}) == 1
    assert photos.scalar("SELECT count(*) FROM content") == 9


def test_two_archives_with_the_same_pictures_share_what_was_recognised(photos: Photos, tmp_path: Path) -> None:
    shutil.copytree(photos.root, tmp_path / "elsewhere")
    job = photos.run(str(tmp_path / "elsewhere"), caption=False)
    assert (job.done, job.copied, photos.asked) == (3, 3, 0)


def test_two_workers_that_read_the_same_bytes_at_once_record_the_same(photos: Photos, tmp_path: Path) -> None:
    for number in range(20):
        picture(photos.root / f"new/{number}.png", 100 + number)
    shutil.copytree(photos.root / "new", tmp_path / "elsewhere")
    services = photos.services
    with crop_archive.stages_worker(services) as other, ThreadPoolExecutor(2) as pool:
        started = [services.jobs.create(str(folder), caption=False) for folder in (photos.root, tmp_path / "elsewhere")]
        jobs = list(pool.map(crop_archive.work, [services] * 2, (photos.worker, other), started))
    assert [(job.done, job.failed, job.pending) for job in jobs] == [(20, 0, 0), (20, 0, 0)]
    assert photos.asked + sum(job.copied for job in jobs) == 40
    different = photos.rows(
        """SELECT count(*) FROM record JOIN vector USING (image_id, generation_id)
           GROUP BY sha256 HAVING count(DISTINCT (tags, scores, v)) > 1"""
    )
    assert different == []
    assert photos.scalar("SELECT count(*) FROM content") == 43


def test_a_record_that_is_deleted_meanwhile_was_taken_over_by_value(
    photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(photos.root / "a.png", photos.root / "z.png")
    ids, find = photos.ids(), same_bytes.find
    before = photos.record(ids["a.png"])

    def and_then_delete(session: Session, *args: object) -> Mapping[int, SameBytes]:
        found = find(session, *args)  # type: ignore[arg-type]
        if found:
            photos.services.erasures.delete([ids["a.png"]])
        return found

    monkeypatch.setattr(recall.same_bytes, "find", and_then_delete)
    job = photos.run(caption=False)
    assert (job.done, job.copied, photos.asked) == (1, 1, 0)
    assert photos.record(photos.ids()["z.png"]) == before
    assert photos.rows("SELECT FROM content WHERE image_id = :id", id=ids["a.png"]) == []


def test_stored_features_are_copied_into_a_file_of_their_own(photos: Photos) -> None:
    """Nothing of a deleted image may stay because a copy needs it."""
    services = photos.services
    files = FeatureFiles(open_storage(services.settings.index_location))
    rows = np.arange(6, dtype=np.float16).reshape(3, 2)
    written = files.write(1, "pooled", rows)
    with unit_of_work(services.engine) as session:
        first = photos.ids()["a.png"]
        version = photos.scalar("SELECT version FROM image WHERE id = :id", id=first)
        features.link(session, 1, written, {first: (2, version)})
    shutil.copy(photos.root / "a.png", photos.root / "z.png")
    assert photos.run(caption=False).copied == 1
    kept = photos.rows(
        """SELECT file.name, file.kind, position FROM feature JOIN feature_file AS file ON file.id = file_id
           WHERE image_id = :id""",
        id=photos.ids()["z.png"],
    )
    assert [(row.kind, row.name == written.name) for row in kept] == [("pooled", False)]
    assert files.row(kept[0].name, kept[0].position).tolist() == [4, 5]


def test_hashes_of_images_recorded_before_come_with_the_next_listing(photos: Photos) -> None:
    photos.scalar("DELETE FROM content RETURNING image_id")
    job = photos.run(caption=False)
    assert (job.skipped, photos.asked) == (3, 0)
    assert (
        photos.scalar(
            "SELECT count(*) FROM content JOIN record ON record.image_id = content.image_id "
            "AND hash = substring(sha256 FOR 16)"
        )
        == 3
    )


def test_a_file_that_was_touched_before_there_were_hashes_keeps_everything_too(photos: Photos) -> None:
    image_id = photos.ids()["a.png"]
    crop_archive.locate(photos.services, image_id, "dog")
    photos.scalar("DELETE FROM content RETURNING image_id")
    os.utime(photos.root / "a.png", (1_000_000_000, 1_000_000_000))
    assert photos.run(caption=False).copied == 1
    versions = photos.rows(
        "SELECT image.version, l.version AS located FROM image JOIN localization AS l ON l.image_id = id"
    )
    assert [row.version == row.located for row in versions] == [True]


def test_copies_in_a_bucket_take_over_records_too(
    s3_settings: Settings, bucket: str, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NULL_MODEL_COUNT", str(tmp_path / "count"))
    body = picture(tmp_path / "a.png", 1).read_bytes()
    with (
        closing(s3_server.client()) as client,
        client_services(s3_settings) as services,
        crop_archive.crop_worker(services, monkeypatch) as worker,
    ):
        photos = Photos(services, worker, tmp_path, tmp_path / "count")
        client.put_object(Bucket=bucket, Key="a.png", Body=body)
        assert photos.run(f"s3://{bucket}", caption=False).done == 1
        image_id = photos.ids()["a.png"]
        services.corrections.tag([image_id], add=["tag 3"])
        client.put_object(Bucket=bucket, Key="b/a.png", Body=body)
        client.delete_object(Bucket=bucket, Key="a.png")
        job = photos.run(f"s3://{bucket}", caption=False)
        assert (job.done, job.copied, photos.asked) == (1, 1, 1)
        assert (photos.ids(), photos.missing()) == ({"b/a.png": image_id}, [])
        assert [said.name for said in services.images.get(image_id).corrections] == ["tag 3"]

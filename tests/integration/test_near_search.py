"""The search for near copies: when workers do it, what it knows of images, and what becomes of its groups."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from storage.database import unit_of_work
from storage.errors import ConflictError
from storage.index import near_search
from storage.index.near_search import search_if_due, search_once
from storage.results import near_copies
from storage.results.nearness import Thresholds
from tests import crop_archive
from tests.same_picture import Photos, picture

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

LOOSE = Thresholds(8, -1.0)
"""The model of these tests draws its vectors: they say nothing."""


def goes_on() -> bool:
    return True


@pytest.fixture
def photos(services: Services, crop_worker: Worker, tmp_path: Path) -> Photos:
    """Two pictures as PNG and as WebP, and one alone."""
    root = tmp_path / "photos"
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        path = picture(root / f"{name}.png", seed)
        if name != "c":
            with Image.open(path) as opened:
                opened.save(root / f"{name}.webp", quality=95)
    found = Photos(services, crop_worker, root, tmp_path / "count")
    found.run()
    return found


def groups(photos: Photos) -> list[list[str]]:
    return [sorted(image.key for image in group.images) for group in photos.services.duplicates.near_page().items]


def shapes(photos: Photos) -> dict[str, int | None]:
    rows = photos.rows("SELECT key, shape FROM image JOIN content ON image_id = image.id WHERE missing_since IS NULL")
    return {row.key: row.shape for row in rows}


def test_workers_search_when_images_are_newer_and_the_last_search_is_long_ago(photos: Photos) -> None:
    engine = photos.services.engine
    found = search_if_due(engine, LOOSE, goes_on)
    assert found is not None
    assert (found.images, found.grouped, found.newer) == (5, 4, 0)
    assert groups(photos) == [["a.png", "a.webp"], ["b.png", "b.webp"]]
    assert search_if_due(engine, LOOSE, goes_on) is None
    picture(photos.root / "d.png", 1)
    with Image.open(photos.root / "a.png") as opened:
        opened.save(photos.root / "a.jpg", quality=95)
    photos.run()
    state = photos.services.duplicates.near_state()
    assert (state.newer, state.images) == (2, 5)
    assert search_if_due(engine, LOOSE, goes_on) is None  # too soon
    with unit_of_work(engine) as session:
        session.connection().exec_driver_sql("UPDATE near_search SET found_at = found_at - interval '2 minutes'")
    found = search_if_due(engine, LOOSE, goes_on)
    assert found is not None
    assert groups(photos) == [["a.jpg", "a.png", "a.webp", "d.png"], ["b.png", "b.webp"]]


def test_a_request_and_other_thresholds_are_reasons_to_search_at_once(photos: Photos) -> None:
    services = photos.services
    assert search_if_due(services.engine, LOOSE, goes_on) is not None
    assert services.duplicates.request_near().is_requested
    found = search_if_due(services.engine, LOOSE, goes_on)
    assert found is not None
    assert not found.is_requested
    assert search_if_due(services.engine, LOOSE, goes_on) is None
    found = search_if_due(services.engine, Thresholds(8, 0.999), goes_on)
    assert found is not None
    assert found.grouped == 0
    assert search_if_due(services.engine, Thresholds(8, 0.999), goes_on) is None


def test_a_worker_searches_beside_its_work(photos: Photos) -> None:
    photos.worker._search_near()
    state = photos.services.duplicates.near_state()
    assert state.found_at is not None
    assert (state.distance, state.cosine) == (8, 0.75)


def test_one_process_searches_at_a_time_and_a_dead_one_is_replaced(photos: Photos) -> None:
    engine = photos.services.engine
    with unit_of_work(engine) as session:
        begun = near_copies.claim(session)
    assert begun is not None
    assert photos.services.duplicates.near_state().is_running
    assert search_once(engine, LOOSE) is None
    with pytest.raises(ConflictError, match="another process"):
        photos.services.duplicates.find_near()
    with unit_of_work(engine) as session:
        session.connection().exec_driver_sql("UPDATE near_search SET started_at = started_at - interval '2 minutes'")
    assert not photos.services.duplicates.near_state().is_running
    assert search_once(engine, LOOSE) is not None
    with unit_of_work(engine) as session:
        assert near_copies.go_on(session, begun) is None  # the dead one would notice


def test_a_search_that_is_ended_leaves_the_groups_as_they_were(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = photos.services.engine
    search_once(engine, LOOSE)
    before = groups(photos)
    picture(photos.root / "d.png", 1)
    photos.run()
    monkeypatch.setattr(near_search, "_SAID_SECONDS", 0.0)
    assert search_once(engine, LOOSE, lambda: False) is None
    assert groups(photos) == before
    assert not photos.services.duplicates.near_state().is_running
    assert search_once(engine, LOOSE) is not None


def test_copies_have_the_hash_of_the_picture_whose_result_they_take_over(photos: Photos) -> None:
    shutil.copy(photos.root / "a.png", photos.root / "e.png")
    assert photos.run().copied == 1
    found = shapes(photos)
    assert found["e.png"] == found["a.png"] is not None


def test_a_touched_file_keeps_its_hash_and_a_changed_one_gets_another(photos: Photos) -> None:
    before = shapes(photos)
    search_once(photos.services.engine, LOOSE)
    os.utime(photos.root / "a.png", (1, 1))
    photos.run()
    assert shapes(photos) == before
    assert photos.services.duplicates.near_state().newer == 0
    picture(photos.root / "a.png", 77)
    photos.run()
    assert shapes(photos)["a.png"] not in {None, before["a.png"]}
    assert photos.services.duplicates.near_state().newer == 1


def test_images_of_an_older_version_have_no_hash_and_are_counted(photos: Photos) -> None:
    with unit_of_work(photos.services.engine) as session:
        session.connection().exec_driver_sql(
            "UPDATE content SET shape = NULL, pixels = NULL, xid = NULL WHERE image_id IN (1, 2)"
        )
    found = search_once(photos.services.engine, LOOSE)
    assert found is not None
    assert (found.images, found.unread) == (3, 2)


def test_images_that_are_missing_or_deleted_leave_their_groups(photos: Photos) -> None:
    services = photos.services
    search_once(services.engine, LOOSE)
    (photos.root / "a.png").unlink()
    photos.run()
    assert groups(photos) == [["b.png", "b.webp"]]
    services.erasures.delete(["b.webp"])
    assert groups(photos) == []
    assert photos.scalar("SELECT count(*) FROM near_copy") == 3
    found = search_once(services.engine, LOOSE)
    assert found is not None
    assert (found.images, found.grouped) == (3, 0)


def test_a_stage_that_decodes_images_hashes_those_of_an_older_version(located: Services, crop_worker: Worker) -> None:
    with unit_of_work(located.engine) as session:
        session.connection().exec_driver_sql("UPDATE content SET shape = NULL, pixels = NULL, xid = NULL")
    assert located.duplicates.near_state().newer == 0
    crop_archive.work(located, crop_worker, crop_archive.start(located))
    assert located.duplicates.near_state().newer == crop_archive.COUNT
    with unit_of_work(located.engine) as session:
        rows = session.connection().exec_driver_sql("SELECT shape, pixels FROM content").all()
    assert all(row.shape is not None and row.pixels is None for row in rows)

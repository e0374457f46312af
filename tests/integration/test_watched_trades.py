"""Files of equal size and time that trade names: a listing cannot tell, and events of a watched folder do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from storage.database import unit_of_work
from storage.ledger import watch_events
from tests import crop_archive
from tests.same_picture import Photos, picture
from tests.watched import WISHES
from workers.watching.schedule import Schedule

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.services.jobs import JobView
    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


@pytest.fixture
def photos(services: Services, crop_worker: Worker, tmp_path: Path) -> Photos:
    """Two pictures in files of the same size and time, recognised."""
    root = tmp_path / "photos"
    paths = [picture(root / name, number) for number, name in enumerate(("a.png", "b.png"))]
    size = max(path.stat().st_size for path in paths)
    for path in paths:
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
        os.utime(path, (1_000_000_000, 1_000_000_000))
    photos = Photos(services, crop_worker, root, tmp_path / "count")
    assert photos.run().done == 2
    return photos


def look(photos: Photos, watch_id: int, *keys: str) -> JobView:
    """Tell of keys, and do the job that looks at them."""
    with unit_of_work(photos.services.engine) as session:
        watch_events.store(session, watch_id, keys)
        session.connection().exec_driver_sql("UPDATE watch SET event_job_began_at = NULL")
    (job_id,) = Schedule(photos.services.engine).step()
    return crop_archive.work(photos.services, photos.worker, photos.services.jobs.get(job_id))


def test_an_event_tells_of_files_that_look_the_same_to_a_listing(photos: Photos) -> None:
    services, before = photos.services, photos.ids()
    services.corrections.tag([before["a.png"]], add=["tag 1"])
    watch_id = services.watches.add(str(photos.root), WISHES, settle_seconds=0.0).watch.id
    (listing,) = Schedule(services.engine).step()
    crop_archive.work(services, photos.worker, services.jobs.get(listing))
    for old, new in (("a.png", "aside"), ("b.png", "a.png"), ("aside", "b.png")):
        (photos.root / old).rename(photos.root / new)
    assert photos.run().skipped == 2, "a listing sees equal sizes and times"
    assert photos.ids() == before
    job = look(photos, watch_id, "a.png", "b.png")
    assert (job.state, job.done, job.failed) == ("done", 2, 0)
    assert photos.ids() == {"a.png": before["b.png"], "b.png": before["a.png"]}
    assert [each.name for each in services.images.get(before["a.png"]).corrections] == ["tag 1"]
    assert photos.run().skipped == 2, "a listing does not take the exact version for another one"
    assert look(photos, watch_id, "a.png", "b.png").skipped == 2, "what was read since is not read again"
    os.utime(photos.root / "a.png", (1_000_000_000, 1_000_000_000))
    assert services.images.original(before["b.png"]).info().size_bytes, "its inode changed, its bytes did not"

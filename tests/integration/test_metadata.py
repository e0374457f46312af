"""What files say: stored with the results, replaced and erased with the image, read later for older images."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ramq.doctor.database import places
from ramq.wiring import Services
from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.search.views import SearchQuery
from tests.metadata_archive import VIENNA, work, worker, write_pictures
from tests.told_by_files import exif, jpeg

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from storage.results.metadata import MetadataView
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "photos")


@pytest.fixture
def made(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    with worker(services, monkeypatch) as made:
        yield made


def told(services: Services, key: str) -> MetadataView | None:
    return services.images.get(services.images.find(key)).metadata


def rows(services: Services) -> list[tuple[int, int]]:
    """Which transaction last changed each row."""
    with unit_of_work(services.engine) as session:
        return [tuple(row) for row in session.execute(text("SELECT image_id, xid::text FROM metadata ORDER BY 1"))]


def forget_all(services: Services) -> None:
    with unit_of_work(services.engine) as session:
        session.execute(text("DELETE FROM metadata"))


def test_recognition_keeps_what_files_say(services: Services, made: Worker, folder: Path) -> None:
    assert work(services, made, services.jobs.create(str(folder))).done == 6
    view = told(services, "2023/b.jpg")
    assert view is not None
    assert (view.taken_at, view.taken_offset) == (datetime(2023, 5, 1, 18, 30), 120)  # noqa: DTZ001
    assert (view.camera, view.lens) == ("NIKON D90", "AF-S 50mm")
    assert (view.latitude, view.longitude) == pytest.approx(VIENNA, abs=1e-5)
    assert told(services, "2023/d.jpg").camera == "Apple iPhone 12"  # type: ignore[union-attr]
    silent = told(services, "none/e.jpg")
    assert silent is not None
    assert (silent.taken_at, silent.camera, silent.keywords) == (None, None, [])


def test_a_new_version_says_something_new_and_an_equal_one_changes_nothing(
    services: Services, made: Worker, folder: Path
) -> None:
    work(services, made, services.jobs.create(str(folder)))
    before = rows(services)
    (folder / "2023/b.jpg").write_bytes(
        jpeg(exif("2024:01:02 03:04:05", make="Canon", model="Canon EOS R"), color="red")
    )
    work(services, made, services.jobs.create(str(folder)))
    view = told(services, "2023/b.jpg")
    assert view is not None
    assert (view.taken_at, view.camera) == (datetime(2024, 1, 2, 3, 4, 5), "Canon EOS R")  # noqa: DTZ001
    assert (view.latitude, view.lens) == (None, None)
    changed = {one for one, other in zip(rows(services), before, strict=True) if one != other}
    assert [image_id for image_id, _ in changed] == [services.images.find("2023/b.jpg")]
    [job] = services.stages.start("metadata", SearchQuery(), options={"again": True})
    kept = rows(services)
    assert work(services, made, job).done == 6
    assert rows(services) == kept


def test_older_images_are_read_without_recognising_them_again(services: Services, made: Worker, folder: Path) -> None:
    work(services, made, services.jobs.create(str(folder)))
    forget_all(services)
    assert told(services, "2023/b.jpg") is None
    asked = services.search.read(SearchQuery(), "taken:2023")
    assert "`ramq metadata` reads it" in asked.notes[0].text
    estimate = services.stages.estimate("metadata", SearchQuery())
    assert (estimate.images, estimate.done) == (6, 0)
    [job] = services.stages.start("metadata", SearchQuery())
    done = work(services, made, job)
    assert (done.state, done.done, done.failed) == ("done", 6, 0)
    assert told(services, "2023/b.jpg").camera == "NIKON D90"  # type: ignore[union-attr]
    [again] = services.stages.start("metadata", SearchQuery())
    assert (work(services, made, again).skipped, services.jobs.get(again.id).done) == (6, 0)
    hits = services.search.page(SearchQuery(job=job.id, limit=100)).items
    assert len(hits) == 6
    [generation] = [each for each in services.stages.generations() if each.stage == "metadata"]
    assert (generation.images, generation.model) == (6, "file")


def test_a_job_of_named_images_reads_only_those(services: Services, made: Worker, folder: Path) -> None:
    work(services, made, services.jobs.create(str(folder)))
    forget_all(services)
    [job] = services.stages.start("metadata", services.search.read(SearchQuery(), "prefix:2023/"), words="prefix:2023/")
    assert work(services, made, job).done == 3
    assert told(services, "2022/a.jpg") is None
    assert told(services, "2023/b.jpg") is not None


def test_a_job_of_recognition_needs_no_such_stage(services: Services, folder: Path) -> None:
    with pytest.raises(UsageError, match="recognition itself reads what files say"):
        services.jobs.create(str(folder), stages=["metadata"])


def test_a_deleted_image_leaves_nothing(services: Services, made: Worker, folder: Path) -> None:
    work(services, made, services.jobs.create(str(folder)))
    report = services.erasures.delete([services.images.find("2023/b.jpg")], by="local")
    assert (report.images, report.metadata) == (1, 1)
    assert len(rows(services)) == 5
    with unit_of_work(services.engine) as session:
        session.execute(text("DELETE FROM failure"))
        left = session.scalar(
            text("SELECT count(*) FROM metadata LEFT JOIN image ON image.id = image_id WHERE key IS NULL")
        )
    assert left == 0


def test_dropping_the_generation_erases_what_files_say(services: Services, made: Worker, folder: Path) -> None:
    work(services, made, services.jobs.create(str(folder)))
    [job] = services.stages.start("metadata", SearchQuery(), options={"again": True})
    done = work(services, made, job)
    assert done.generation_id is not None
    assert services.stages.drop(done.generation_id).records == 6
    assert rows(services) == []


def test_places_are_not_stored_if_the_settings_say_so(
    services: Services, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = services.settings.model_copy(update={"keep_place": False})
    with ExitStack() as stack:
        other = Services(private, services.engine, services.broker_url, is_reachable=False)
        made = stack.enter_context(worker(other, monkeypatch))
        work(services, made, services.jobs.create(str(folder)))
    view = told(services, "2023/b.jpg")
    assert view is not None
    assert (view.camera, view.latitude, view.longitude, view.altitude_m) == ("NIKON D90", None, None, None)
    with unit_of_work(services.engine) as session:
        assert session.scalar(text("SELECT count(*) FROM metadata WHERE cell IS NOT NULL")) == 0


def test_places_that_are_stored_can_be_erased(services: Services, made: Worker, folder: Path) -> None:
    work(services, made, services.jobs.create(str(folder)))
    query = services.search.read(SearchQuery(), "near:48.2,16.4,10km")
    assert len(services.search.page(query).items) == 2
    with pytest.raises(NotFoundError):
        services.metadata.forget_places("99")
    private = services.settings.model_copy(update={"keep_place": False})
    assert places(services.settings, services.engine) == []
    assert [found.next for found in places(private, services.engine)] == ["ramq forget-places"]
    assert services.metadata.forget_places() == 4
    assert places(private, services.engine) == []
    assert services.search.page(query).items == []
    view = told(services, "2023/b.jpg")
    assert view is not None
    assert (view.camera, view.latitude) == ("NIKON D90", None)
    assert services.metadata.forget_places() == 0

"""Pictures that are not read as a whole say so: in their record, on the page, in queries and in reports."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from ramq.services.index import make_builder
from ramq.web.app import create_app
from ramq.wiring import Services
from storage.database import unit_of_work
from storage.search.views import SearchQuery
from tests import cameras
from tests.metadata_archive import work, worker
from tests.services.command_line import said_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from storage.results.views import ImageView
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


def picture(seed: int = 0, size: tuple[int, int] = (400, 300)) -> bytes:
    buffer = io.BytesIO()
    scene = cameras.scene(*size)
    scene.paste((seed, 0, 0), (0, 0, 9, 9))
    scene.save(buffer, "JPEG")
    return buffer.getvalue()


def cut(body: bytes) -> bytes:
    return body[: int(0.8 * len(body))]


@pytest.fixture
def reading(services: Services) -> Services:
    """The same, with workers and servers that read what is cut short."""
    settings = services.settings.model_copy(update={"truncated": "read"})
    return Services(settings, services.engine, None, is_reachable=False)


@pytest.fixture
def made(reading: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    with worker(reading, monkeypatch) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "cut.jpg").write_bytes(cut(picture()))
    (folder / "whole.jpg").write_bytes(picture(1))
    pages = [cameras.scene(64, 48) for _ in range(3)]
    pages[0].save(folder / "scan.tif", save_all=True, append_images=pages[1:])
    return folder


def view(services: Services, key: str) -> ImageView:
    return services.images.get(services.images.find(key))


def keys(services: Services, query: str) -> set[str]:
    found = services.search.page(services.search.read(SearchQuery(limit=500), query, is_strict=True))
    return {hit.key for hit in found.items}


def test_by_default_a_file_that_is_cut_short_is_refused(
    services: Services, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with worker(services, monkeypatch) as refusing:
        job = work(services, refusing, services.jobs.create(str(folder)))
    assert (job.done, job.failures_by_class) == (2, {"truncated": 1})
    assert services.jobs.report(job.id).truncated == 0


def test_what_was_read_in_part_is_marked_found_and_counted(reading: Services, made: Worker, folder: Path) -> None:
    job = work(reading, made, reading.jobs.create(str(folder)))
    assert (job.done, job.failed) == (3, 0)
    assert view(reading, "cut.jpg").truncated == pytest.approx(0.8, abs=0.2)
    assert view(reading, "whole.jpg").truncated is None
    assert (view(reading, "scan.tif").pages, view(reading, "whole.jpg").pages) == (3, None)
    for is_published in (False, True):
        if is_published:
            make_builder(reading.settings, reading.engine).publish_new(1)
        assert keys(reading, "truncated:yes") == {"cut.jpg"}
        assert keys(reading, "truncated:no") == {"whole.jpg", "scan.tif"}
    report = reading.jobs.report(job.id)
    assert (report.truncated, report.tiled, report.first_pages) == (1, 0, 1)
    shown = said_on(reading, "job", str(job.id), "--report")
    assert "not whole   cut short 1, the first of several pages 1" in shown
    assert "its file is cut short" in said_on(reading, "show", "cut.jpg")
    assert "page 1 of 3" in said_on(reading, "show", "scan.tif")


def test_the_page_and_the_api_say_so(reading: Services, made: Worker, folder: Path) -> None:
    job = work(reading, made, reading.jobs.create(str(folder)))
    client = TestClient(create_app(reading), base_url="http://localhost")
    cut_id = reading.images.find("cut.jpg")
    answer = client.get(f"/v1/images/{cut_id}").json()
    assert 0.5 < answer["truncated"] < 1
    assert {hit["key"]: hit["truncated"] for hit in client.get("/v1/search").json()["items"]} == {
        "cut.jpg": True,
        "whole.jpg": False,
        "scan.tif": False,
    }
    assert client.get(f"/v1/jobs/{job.id}/report").json()["truncated"] == 1
    assert "of the rows could be read" in client.get(f"/images/{cut_id}").text
    assert "1 of 3: only the first page is read" in client.get(f"/images/{reading.images.find('scan.tif')}").text
    assert client.get("/").text.count("File cut short") == 1
    assert client.get(f"/v1/images/{cut_id}/thumbnail").status_code == 200


def test_a_file_that_is_whole_again_is_read_again_and_loses_the_mark(
    reading: Services, made: Worker, folder: Path
) -> None:
    work(reading, made, reading.jobs.create(str(folder)))
    again = work(reading, made, reading.jobs.create(str(folder)))
    assert (again.done, again.skipped) == (0, 3)
    (folder / "cut.jpg").write_bytes(picture())
    work(reading, made, reading.jobs.create(str(folder)))
    assert view(reading, "cut.jpg").truncated is None
    assert keys(reading, "truncated:yes") == set()


def test_a_copy_takes_the_mark_over_and_a_deletion_erases_it(reading: Services, made: Worker, folder: Path) -> None:
    work(reading, made, reading.jobs.create(str(folder)))
    (folder / "copy.jpg").write_bytes(cut(picture()))
    job = work(reading, made, reading.jobs.create(str(folder)))
    assert job.copied == 1
    assert view(reading, "copy.jpg").truncated == view(reading, "cut.jpg").truncated
    assert keys(reading, "truncated:yes") == {"cut.jpg", "copy.jpg"}
    reading.erasures.delete([reading.images.find("cut.jpg")])
    with unit_of_work(reading.engine) as session:
        assert session.scalar(text("SELECT count(*) FROM opening")) == 2  # the copy, and the document

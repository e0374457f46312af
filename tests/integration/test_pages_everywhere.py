"""Pages of files wherever images are: the API, the page, commands, lists, tar files, watches, sidecars."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from ramq.services.sidecars import SidecarPlace, write_sidecars
from ramq.web.app import create_app
from storage.database import unit_of_work
from storage.ledger import jobs as ledger_jobs
from storage.objects.folder import FolderStore
from storage.search.views import SearchQuery
from storage.tables import Archive
from tests import crop_archive, scans
from tests.same_picture import Photos, picture
from tests.services.command_line import said_on
from tests.tar_files import packed
from tests.told_by_files import xmp
from workers.watching.schedule import Schedule

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

LETTER = ["letter.tif", "letter.tif/page-00002", "letter.tif/page-00003"]


@pytest.fixture
def photos(services: Services, crop_worker: Worker, tmp_path: Path) -> Photos:
    """A picture, and a letter of three pages."""
    root = tmp_path / "photos"
    picture(root / "a.png", 1)
    scans.tiff([10, 11, 12], root / "letter.tif")
    return Photos(services, crop_worker, root, tmp_path / "count")


def test_the_api_starts_such_jobs_and_tells_of_pages(photos: Photos) -> None:
    http = TestClient(create_app(photos.services), base_url="http://localhost")
    started = http.post("/v1/jobs", json={"source": str(photos.root), "pages": True}).json()
    assert started["options"] == {"pages": True}
    crop_archive.work(photos.services, photos.worker, photos.services.jobs.get(started["id"]))
    hits = {hit["key"]: hit for hit in http.get("/v1/search").json()["items"]}
    assert {(key, hit["page"], hit["pages"], hit["file_key"]) for key, hit in hits.items()} == {
        ("a.png", None, None, "a.png"),
        *((key, number, 3, "letter.tif") for number, key in enumerate(LETTER, 1)),
    }
    second = http.get(f"/v1/images/{hits[LETTER[1]]['image_id']}").json()
    assert (second["previous_page"], second["next_page"]) == tuple(hits[LETTER[at]]["image_id"] for at in (0, 2))
    assert (second["page"], second["pages"], second["file_key"], second["page_images"]) == (2, 3, "letter.tif", 3)
    original = http.get(f"/v1/images/{second['image_id']}/original")
    assert original.content == (photos.root / "letter.tif").read_bytes()
    assert http.get(f"/v1/images/{second['image_id']}/thumbnail").headers["content-type"] == "image/jpeg"


def test_the_page_links_the_pages_of_a_file(photos: Photos) -> None:
    web = TestClient(create_app(photos.services), base_url="http://localhost")
    form = web.get("/jobs").text
    assert 'name="pages"' in form
    job_id = int(
        web.post("/jobs", data={"source": str(photos.root), "pages": "all"}, follow_redirects=False)
        .headers["location"]
        .rpartition("/")[2]
    )
    crop_archive.work(photos.services, photos.worker, photos.services.jobs.get(job_id))
    ids = photos.ids()
    shown = web.get(f"/images/{ids[LETTER[1]]}").text
    assert "page 2 of 3" in shown
    assert f'<a rel="prev" href="/images/{ids[LETTER[0]]}">' in shown
    assert f'<a rel="next" href="/images/{ids[LETTER[2]]}">' in shown
    assert "All 3 pages" in shown
    assert web.get("/", params={"q": "prefix:letter.tif"}).text.count("of 3 of <bdi") == 2


def test_commands_tell_of_pages(photos: Photos) -> None:
    job_id = said_on(photos.services, "enqueue", str(photos.root), "--pages").strip()
    crop_archive.work(photos.services, photos.worker, photos.services.jobs.get(int(job_id)))
    assert "page 2 of 3; 3 of them are images" in said_on(photos.services, "show", LETTER[1])
    found = json.loads(said_on(photos.services, "search", "--prefix", "letter.tif", "--json"))
    assert sorted(hit["key"] for hit in found["items"]) == LETTER
    rows = list(csv.DictReader(io.StringIO(said_on(photos.services, "export", "--format", "csv"))))
    assert {(row["key"], row["page"], row["pages"]) for row in rows} == {
        ("a.png", "", ""),
        *((key, str(number), "3") for number, key in enumerate(LETTER, 1)),
    }
    said_on(photos.services, "delete", "letter.tif", "--yes")
    assert sorted(photos.ids()) == ["a.png"]


def test_a_file_is_fetched_once_for_the_pages_of_a_shard(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    scans.tiff(range(100, 200), photos.root / "book.tif")
    fetched, fetch = Counter[str](), FolderStore.fetch

    def counted(store: FolderStore, key: str, *more: Any) -> Any:
        fetched[key] += 1
        return fetch(store, key, *more)

    monkeypatch.setattr(FolderStore, "fetch", counted)
    assert photos.run(pages=True).done == 104
    assert fetched == {"a.png": 1, "letter.tif": 2, "book.tif": 2}


def test_members_of_tar_files_have_pages(photos: Photos) -> None:
    pdf = scans.pdf([3, 4])
    (photos.root / "box.tar").write_bytes(packed({"x/scan.tif": scans.tiff([1, 2]), "x/list.pdf": pdf}))
    job = photos.run(f"tar+{photos.root}", pages=True)
    assert (job.listed, job.done) == (4, 4)
    keys = sorted(photos.ids())
    assert keys == [
        "box.tar/x/list.pdf", "box.tar/x/list.pdf/page-00002", "box.tar/x/scan.tif", "box.tar/x/scan.tif/page-00002",
    ]  # fmt: skip
    assert photos.services.images.content(photos.ids()[keys[1]]) == pdf
    again = photos.run(f"tar+{photos.root}", pages=True)
    assert (again.listed, again.skipped) == (4, 4)


def test_files_in_a_list_have_pages(photos: Photos, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"{photos.root}/letter.tif\n{photos.root}/letter.tif\n")
    job = photos.run(str(listed), pages=True)
    assert (job.listed, job.done) == (3, 3)
    assert [key.removeprefix("photos/") for key in sorted(photos.ids())] == LETTER
    again = photos.run(str(listed), pages=True)
    assert (again.listed, again.skipped) == (3, 3)


def test_a_list_may_name_pages_that_are_known(photos: Photos, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"{photos.root}/letter.tif\n{photos.root}/a.png\n")
    photos.run(str(listed), pages=True)
    listed.write_text(
        f"{photos.root}/letter.tif/page-00002\n{photos.root}/a.png\n{photos.root}/letter.tif/page-00004\n"
    )
    job = photos.run(str(listed))
    assert (job.listed, job.skipped, job.failed) == (3, 2, 1), "of a page that is not known, nobody knows the file"
    assert photos.missing() == []
    scans.tiff([10, 21, 12], photos.root / "letter.tif")
    job = photos.run(str(listed))
    assert (job.listed, job.done, job.skipped, job.failed) == (3, 1, 1, 1)


def test_a_single_file_in_a_bucket_or_folder_is_a_source_with_its_pages(photos: Photos) -> None:
    photos.run(pages=True)
    (photos.root / "letter.tif").unlink()
    photos.run(pages=True)
    assert photos.missing() == LETTER


def look(photos: Photos, *keys: str) -> None:
    """Let a job look at keys, as one of a watch does."""
    with unit_of_work(photos.services.engine) as session:
        archive = session.get_one(Archive, 1)
        job_id = ledger_jobs.create(
            session, archive=archive, source=archive.uri, prefix="", model="lite", captioner="none",
            priority="normal", options={"pages": True}, of_keys=True,
        )  # fmt: skip
        for key in keys:
            session.connection().exec_driver_sql("INSERT INTO job_key VALUES (%s, %s)", (job_id, key))
    done = crop_archive.work(photos.services, photos.worker, photos.services.jobs.get(job_id))
    assert done.state == "done"


def test_jobs_of_events_have_pages(photos: Photos) -> None:
    photos.run(pages=True)
    scans.tiff([30, 31], photos.root / "new.tif")
    look(photos, "new.tif", "letter.tif")
    assert sorted(photos.ids()) == ["a.png", *LETTER, "new.tif", "new.tif/page-00002"]
    (photos.root / "letter.tif").unlink()
    look(photos, "letter.tif", "new.tif")
    assert photos.missing() == LETTER
    scans.tiff([10, 11, 12], photos.root / "letter.tif")
    look(photos, "letter.tif")
    assert photos.missing() == []


def test_a_watch_keeps_that_its_jobs_want_pages(photos: Photos) -> None:
    web = TestClient(create_app(photos.services), base_url="http://localhost")
    web.post("/archives/watches", data={"source": str(photos.root), "pages": "all"})
    [watch] = photos.services.watches.list()
    assert watch.pages
    assert "each page of a file" in web.get("/archives").text
    Schedule(photos.services.engine).step()
    [job] = photos.services.jobs.list().items
    assert "each page of a TIFF or PDF file is an image" in web.get(f"/jobs/{job.id}").text
    crop_archive.work(photos.services, photos.worker, job)
    assert sorted(photos.ids()) == ["a.png", *LETTER]


def test_a_sidecar_speaks_of_all_pages_and_is_written_for_the_first(photos: Photos, tmp_path: Path) -> None:
    (photos.root / "letter.xmp").write_bytes(xmp({"dc:title": "To Anna"}))
    photos.run(pages=True)
    titles = {key: photos.services.images.get(image_id).metadata for key, image_id in photos.ids().items()}
    assert [titles[key].title for key in LETTER] == ["To Anna"] * 3  # type: ignore[union-attr]
    (photos.root / "letter.xmp").write_bytes(xmp({"dc:title": "To Ben"}))
    photos.run(pages=True)
    assert photos.services.images.get(photos.ids()[LETTER[2]]).metadata.title == "To Ben"  # type: ignore[union-attr]
    _, hits = photos.services.search.export(SearchQuery(limit=100))
    place = SidecarPlace(tmp_path / "out", (), photos.services.settings.s3, photos.services.engine)
    (tmp_path / "out").mkdir()
    found = write_sidecars(hits, place, lambda _hit, why: pytest.fail(why))
    assert (found.written, found.further_pages) == (2, 2)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png.xmp", "letter.tif.xmp"]

"""Files with pages that are cut short, erased, found and estimated."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from ramq.web.app import create_app
from storage.search.views import SearchQuery
from tests import scans
from tests.same_picture import Photos
from tests.services.command_line import run_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


@pytest.fixture
def photos(services: Services, crop_worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Photos:
    """A letter of five pages, and one with a longer name of two."""
    monkeypatch.setenv("NULL_MODEL_COUNT", str(tmp_path / "count"))
    root = tmp_path / "photos"
    scans.tiff([10, 11, 12, 13, 14], root / "letter.tif")
    scans.tiff([20, 21], root / "letter.tiff")
    return Photos(services, crop_worker, root, tmp_path / "count")


@pytest.fixture
def web(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services), base_url="http://localhost") as client:
        yield client


def keys(services: Services, query: str) -> list[str]:
    search = services.search
    return sorted(hit.key for hit in search.page(search.read(SearchQuery(limit=100), query, is_strict=True)).items)


LETTER = ["letter.tif", *(f"letter.tif/page-{number:05d}" for number in (2, 3, 4, 5))]


@pytest.mark.parametrize("pages", [True, False])
def test_pages_behind_a_cut_do_not_vanish_silently(photos: Photos, web: TestClient, pages: bool) -> None:
    body = (photos.root / "letter.tif").read_bytes()
    (photos.root / "letter.tif").write_bytes(body[: len(body) // 2])
    job = photos.run(pages=pages)
    image_id = photos.ids()["letter.tif"]
    shown = photos.services.images.get(image_id)
    assert shown.pages is not None
    assert 1 < shown.pages < 5
    words = f"pages behind page {shown.pages} cannot be read"
    assert words in run_on(photos.services, "show", "letter.tif").stdout
    assert words in web.get(f"/images/{image_id}").text
    assert keys(photos.services, "truncated:yes") == ["letter.tif"]
    assert photos.services.jobs.report(job.id).truncated == 1
    scans.tiff([10, 11], photos.root / "letter.tif")
    photos.run(pages=pages)
    assert photos.services.images.get(image_id).truncated is None


def test_whoever_deletes_a_file_is_asked_about_all_of_its_pages(
    photos: Photos, web: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos.run(pages=True)
    asked = run_on(photos.services, "delete", "letter.tif").stderr
    assert "Erase the results of 1 file with 5 pages: cannot ask" in asked
    ids = photos.ids()
    both = run_on(photos.services, "delete", "letter.tif", "letter.tif/page-00002", "letter.tiff/page-00002").stderr
    assert "Erase the results of 1 image and 1 file with 5 pages" in both
    assert "1 image:" in run_on(photos.services, "delete", "letter.tif/page-00003").stderr
    assert sorted(photos.ids()) == sorted(ids)
    assert web.delete(f"/v1/images/{ids['letter.tif']}").json()["images"] == 5
    assert sorted(photos.ids()) == ["letter.tiff", "letter.tiff/page-00002"]


def test_all_pages_of_a_file_are_those_of_no_other_file(photos: Photos, web: TestClient) -> None:
    scans.tiff([30, 31], photos.root.parent / "others/letter.tif")
    photos.run(pages=True)
    photos.run(source=str(photos.root.parent / "others"), pages=True)
    query = f'archive:"{photos.root.as_uri()}" file:letter.tif'
    assert keys(photos.services, query) == LETTER
    assert keys(photos.services, "file:letter.tif") == sorted([*LETTER, *LETTER[:2]])
    assert keys(photos.services, "file:letter") == []
    shown = web.get(f"/images/{photos.ids()['letter.tiff']}").text
    assert "All 2 pages that are images" in shown
    link = re.search(r'href="([^"]*)">All 2 pages', shown)
    assert link is not None
    hits = web.get(html.unescape(link[1]), headers={"accept": "text/html"}).text
    assert "2 images" in hits


def test_neighbours_are_pages_that_are_there(photos: Photos) -> None:
    photos.run(pages=True)
    images, ids = photos.services.images, photos.ids()

    def around(number: int) -> list[int | None]:
        shown = images.get(ids[LETTER[number - 1]])
        places = {ids[key]: place for place, key in enumerate(LETTER, 1)}
        return [places.get(one or 0) for one in (shown.previous_page, shown.next_page)]

    photos.services.erasures.delete(["letter.tif/page-00002"])
    assert [around(number) for number in (1, 3, 4, 5)] == [[None, 3], [1, 4], [3, 5], [4, None]]
    scans.tiff([10, 11, 12], photos.root / "letter.tif")
    photos.run(pages=True)
    ids |= photos.ids()
    assert [around(number) for number in (1, 2, 3)] == [[None, 2], [1, 3], [2, None]]
    (photos.root / "letter.tif").unlink()
    photos.run(pages=True)
    assert around(2) == [1, 3]  # of a file that is gone one can still leaf


def test_an_estimate_says_that_pages_are_not_counted(photos: Photos, web: TestClient) -> None:
    source = str(photos.root)
    words = run_on(photos.services, "estimate", source, "--no-trial")
    assert "images:                  2\n" in words.stdout
    assert "2 TIFF or PDF files may have several pages, of which the first is read" in words.stderr
    words = run_on(photos.services, "estimate", source, "--no-trial", "--pages")
    assert "images:                  at least 2\n" in words.stdout
    assert "Pages are counted when a job opens the file" in words.stderr
    told = run_on(photos.services, "estimate", source, "--no-trial", "--pages", "--images", "7")
    assert "images:                  7\n" in told.stdout
    size = sum(path.stat().st_size for path in photos.root.iterdir())
    answer = web.post("/v1/estimates", json={"source": source, "pages": True}).json()
    assert answer["images"] == {"low": 2, "high": None}
    assert answer["size_bytes"] == {"low": size, "high": size}
    form = {"source": source, "pages": "all", "then": "estimate"}
    assert "at least 2" in web.post("/jobs", data=form).text

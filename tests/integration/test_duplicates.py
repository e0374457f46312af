"""Groups of images with the same bytes: in searches, on the command line, in the API and on the page."""

from __future__ import annotations

import csv
import io
import json
import shutil
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sqlalchemy import text

from ramq.services.index import make_builder
from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.results.copies import Copies
from storage.search.views import SearchQuery
from tests.same_picture import Photos, picture
from tests.services.command_line import run_on, said_on
from tests.services.web import services_of

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.testclient import TestClient

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


@pytest.fixture
def photos(services: Services, crop_worker: Worker, tmp_path: Path) -> Photos:
    """A picture that is there four times, one that is there twice, and one alone; in two archives."""
    root, other = tmp_path / "photos", tmp_path / "other"
    for number, names in enumerate((("a.png", "b.png", "c.png"), ("d.png", "e.png"), ("f.png",))):
        for name in names:
            picture(root / name, number)
    other.mkdir()
    shutil.copy(root / "a.png", other / "z.png")
    photos = Photos(services, crop_worker, root, tmp_path / "count")
    photos.run()
    photos.run(str(other))
    return photos


def keys(services: Services, q: str = "", **more: Any) -> list[str]:
    found = services.search.page(services.search.read(SearchQuery(limit=500, **more), q, is_strict=True))
    assert found.total == len(found.items)
    return sorted(hit.key for hit in found.items)


def test_hits_say_of_how_many_images_with_the_same_bytes_they_are_one(photos: Photos) -> None:
    for is_published in (False, True):
        if is_published:
            make_builder(photos.services.settings, photos.services.engine).publish_new(1)
        hits = photos.services.search.page(SearchQuery(limit=50)).items
        assert {hit.key: hit.duplicates for hit in hits} == {
            **dict.fromkeys(("a.png", "b.png", "c.png", "z.png"), 4),
            **dict.fromkeys(("d.png", "e.png"), 2),
            "f.png": 1,
        }


def test_queries_find_duplicates_and_the_images_with_the_bytes_of_one(photos: Photos) -> None:
    services, ids = photos.services, photos.ids()
    copies = ["a.png", "b.png", "c.png", "d.png", "e.png", "z.png"]
    assert keys(services, "duplicate:yes") == copies
    assert keys(services, "duplicate:no") == ["f.png"]
    assert keys(services, f"same:{ids['b.png']}") == ["a.png", "b.png", "c.png", "z.png"]
    assert keys(services, f"same:{ids['d.png']} -prefix:e") == ["d.png"]
    assert keys(services, "same:999999999999999999999") == []
    with pytest.raises(UsageError, match="yes or no"):
        keys(services, "duplicate:maybe")


def test_folded_hits_have_one_of_each_group_that_matches(photos: Photos) -> None:
    services = photos.services
    for is_published in (False, True):
        if is_published:
            make_builder(services.settings, services.engine).publish_new(1)
        assert keys(services, fold=True) == ["a.png", "d.png", "f.png"]
        assert keys(services, "-prefix:a -prefix:d", fold=True) == ["b.png", "e.png", "f.png"]
        assert keys(services, fold=True, archive="2") == ["z.png"]
        assert keys(services, "duplicate:yes", fold=True) == ["a.png", "d.png"]
        assert keys(services, fold=False) == ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png", "z.png"]
        like = photos.ids()["a.png"]
        found = services.search.page(SearchQuery(like=like, fold=True, limit=50)).items
        assert sorted(hit.key for hit in found) == ["b.png", "d.png", "f.png"] or len(found) <= 3
    exported = services.search.export(SearchQuery(fold=True))[1]
    assert sorted(hit.key for hit in exported) == ["a.png", "d.png", "f.png"]
    assert sum(facet.count for facet in services.search.facets(SearchQuery(fold=True))) < sum(
        facet.count for facet in services.search.facets(SearchQuery())
    )


def test_images_whose_originals_are_missing_are_in_no_group(photos: Photos) -> None:
    (photos.root / "d.png").unlink()
    photos.run()
    assert photos.missing() == ["d.png"]
    assert "e.png" not in keys(photos.services, "duplicate:yes")
    assert [group.count for group in photos.services.duplicates.page().items] == [4]


def test_groups_are_listed_largest_first_by_pages_and_by_archive(photos: Photos) -> None:
    duplicates = photos.services.duplicates
    first = duplicates.page(limit=1)
    assert first.next_cursor is not None
    second = duplicates.page(limit=1, cursor=first.next_cursor)
    groups = [*first.items, *second.items]
    assert ([group.count for group in groups], second.next_cursor) == ([4, 2], None)
    assert [image.key for image in groups[0].images] == ["a.png", "b.png", "c.png", "z.png"]
    assert groups[0].size_bytes == (photos.root / "a.png").stat().st_size
    assert [group.count for group in duplicates.page("1").items] == [3, 2]
    assert duplicates.page("2").items == []
    rows = list(duplicates.rows())
    assert [(row.count, row.key) for row in rows[:4]] == [(4, "a.png"), (4, "b.png"), (4, "c.png"), (4, "z.png")]
    assert len(rows) == 6
    with pytest.raises(UsageError):
        duplicates.page(cursor="nonsense")
    with pytest.raises(NotFoundError):
        duplicates.page("77")


def test_a_deleted_image_leaves_its_group(photos: Photos) -> None:
    photos.services.erasures.delete(["d.png"])
    assert [group.count for group in photos.services.duplicates.page().items] == [4]


def test_hidden_copies_are_all_but_the_first_of_each_group() -> None:
    copies = Copies(np.array([2, 3, 5, 8, 9]), np.array([2, 3, 2, 3, 2]))
    assert copies.hidden(np.array([1, 2, 3, 5, 7, 8, 9, 12])).tolist() == [5, 8, 9]
    assert copies.hidden(np.array([5, 9])).tolist() == [9]
    assert copies.hidden(np.array([], dtype=np.int64)).tolist() == []


def test_the_command_line_lists_and_writes_groups(photos: Photos) -> None:
    run = partial(said_on, photos.services)
    assert [line.split()[0] for line in run("duplicates").splitlines()[1:]] == ["4", "2"]
    assert [group["count"] for group in json.loads(run("duplicates", "--json", "--limit", "1"))["items"]] == [4]
    lines = [json.loads(line) for line in run("duplicates", "--format", "jsonl", "--archive", "1").splitlines()]
    assert [(line["count"], line["key"]) for line in lines][:3] == [(3, "a.png"), (3, "b.png"), (3, "c.png")]
    table = list(csv.DictReader(io.StringIO(run("duplicates", "--format", "csv"))))
    assert [row["key"] for row in table] == ["a.png", "b.png", "c.png", "z.png", "d.png", "e.png"]
    assert "one of 4" in run("search", "same:1")
    assert json.loads(run("search", "--fold", "--json"))["total"] == 3
    assert run_on(photos.services, "duplicates", "--format", "xml").returncode == 2
    assert photos.ids()


def hashed(client: TestClient) -> None:
    """Note the hashes of the recognised photographs, of which one is there twice."""
    with unit_of_work(services_of(client).engine) as session:
        session.execute(
            text(
                """INSERT INTO content SELECT image_id, version, substring(sha256 FOR 16) FROM record
                   ON CONFLICT DO NOTHING"""
            )
        )


def test_the_api_and_the_page_show_groups(client: TestClient) -> None:
    hashed(client)
    [group] = client.get("/v1/duplicates").json()["items"]
    assert (group["count"], len(group["images"])) == (2, 2)
    first = group["images"][0]["image_id"]
    answer = client.get("/v1/search", params={"q": f"same:{first}"}).json()
    assert [item["duplicates"] for item in answer["items"]] == [2, 2]
    folded = client.get("/v1/search", params={"q": f"same:{first}", "fold": "1"}).json()
    assert folded["total"] == 1
    assert client.get("/v1/duplicates", params={"archive": "99"}).status_code == 404
    assert client.get("/v1/duplicates", params={"cursor": "x"}).status_code == 422
    page = client.get("/duplicates", headers={"accept": "text/html"})
    assert (page.status_code, "2 images" in page.text, "<script>alert" in page.text) == (200, True, False)
    badge = client.get("/", params={"q": f"same:{first}"}, headers={"accept": "text/html"}).text
    assert badge.count("one of 2") == 2
    assert "One of each file" in badge
    again = client.get("/", params={"q": f"same:{first}", "fold": "1"}, headers={"accept": "text/html"}).text
    assert again.count("one of 2") == 1
    bad = client.get("/duplicates", params={"archive": "99"}, headers={"accept": "text/html"})
    assert bad.status_code == 404

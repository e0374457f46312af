from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from storage.index.index import VectorIndex
from storage.search import query as queries
from tests.services.recognised import CAT, HOSTILE_KEY
from tests.services.web import job_of

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.testclient import TestClient

pytestmark = pytest.mark.services


def test_the_page_shows_what_the_api_tells(client: TestClient) -> None:
    items = client.get("/v1/search", params={"limit": 60}).json()["items"]
    job = job_of(client)

    page = client.get("/", headers={"accept": "text/html"})

    assert page.headers["cache-control"] == "no-store"
    for item in items:
        assert f'href="/images/{item["image_id"]}"' in page.text
    assert f"<dd>{job['done']}</dd>" in client.get(f"/jobs/{job['id']}").text
    failures = client.get(f"/jobs/{job['id']}/failures").text
    assert "half.png" in failures
    assert "notes.jpg" in failures
    assert "lite" in client.get("/generations").text
    assert "/v1/search/image" in client.get("/docs").text


def test_only_the_screen_of_archives_counts_what_is_recorded_of_each(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Milvus that reads the ids of all of them, and searches go to a standby to spare the database."""
    counted: list[int] = []
    monkeypatch.setattr(VectorIndex, "archive_counts", lambda *_: counted.append(1) or Counter())
    uri = client.get("/v1/archives").json()["items"][0]["uri"]
    for path in ("/", "/archives/policies"):
        assert f">{uri}</option>" in client.get(path).text
    assert client.get("/generations").status_code == 200
    assert len(counted) == 1


def test_a_hostile_key_is_shown_and_does_nothing(client: TestClient) -> None:
    items = client.get("/v1/search", params={"prefix": "odd/"}).json()["items"]
    assert [item["key"] for item in items] == [HOSTILE_KEY]

    for path in (f"/images/{items[0]['image_id']}", "/?prefix=odd/", "/"):
        text = client.get(path).text
        assert "<script>alert" not in text
        assert "\u202e" not in text
    assert "&lt;script&gt;" in client.get(f"/images/{items[0]['image_id']}").text


def test_a_form_with_empty_fields_ends_at_a_short_link(client: TestClient) -> None:
    response = client.get("/", params={"q": "", "tag": ["", CAT], "threshold": ""})

    assert response.status_code == 303
    assert response.headers["location"] == "/?tag=Egyptian+cat"


def test_a_mistake_is_told_above_the_form_that_made_it(client: TestClient) -> None:
    search = client.get("/", params={"tag": "Egyptian cab"}, headers={"accept": "text/html"})
    job = client.post("/jobs", data={"source": "/nowhere/at/all"}, headers={"accept": "text/html"})

    assert search.status_code == 422
    assert CAT in search.text
    assert job.status_code == 422
    assert 'value="/nowhere/at/all"' in job.text


def test_a_dropped_picture_has_a_link_of_its_own(client: TestClient, archive: Path) -> None:
    picture = (archive / "chelsea.png").read_bytes()

    dropped = client.post("/search/image?tag=", files={"image": ("cat.png", picture, "image/png")})
    page = client.get(dropped.headers["location"], headers={"accept": "text/html"})
    name = dropped.headers["location"].rpartition("=")[2]
    shown = client.get(f"/pictures/{name}")

    assert dropped.status_code == 303
    assert page.text.index("chelsea.png") < page.text.index("coffee.png")
    assert (shown.content, shown.headers["content-type"]) == (picture, "image/png")
    assert "sandbox" in shown.headers["content-security-policy"]
    forgotten = client.get("/", params={"picture": "0" * 64}, headers={"accept": "text/html"})
    assert forgotten.status_code == 404
    assert "upload it again" in forgotten.text


def test_the_page_says_once_that_the_list_ends(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id = client.get("/v1/search").json()["items"][0]["image_id"]
    monkeypatch.setattr(queries, "MAX_OFFSET", 5)
    assert client.get("/", params={"like": image_id}).text.count("The list ends here") == 1
    [note] = client.get("/v1/search", params={"like": image_id}).json()["notes"]
    assert "The list ends here" in note["text"]

"""Pictures of which people spoke and whose files are gone: listed, and continued at another picture by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from ramq.client import Client
from ramq.web.app import create_app
from storage.errors import NotFoundError, UsageError
from tests.integration.test_moved_files import said, say_everything
from tests.same_picture import Photos, picture
from tests.services.command_line import run_here
from tests.services.web import assert_problem, serving

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


@pytest.fixture
def photos(services: Services, crop_worker: Worker, tmp_path: Path) -> Photos:
    """A picture of which much was said, which was edited and saved under its name; and one that was deleted."""
    photos = Photos(services, crop_worker, tmp_path / "photos", tmp_path / "count")
    for number in range(4):
        picture(photos.root / f"{number}.png", number)
    photos.run()
    say_everything(photos, 1)
    services.corrections.tag([2], add=["tag 9"])
    services.keywords.go_on(services.keywords.begin([2], add=["Anna's garden"]).id)
    picture(photos.root / "0.png", 50)
    (photos.root / "1.png").unlink()
    (photos.root / "2.png").unlink()
    photos.run()
    return photos


def test_what_people_said_of_missing_pictures_is_listed(photos: Photos) -> None:
    first = photos.services.images.missing.page(limit=1)
    [edited] = first.items
    assert (edited.image_id, edited.key) == (1, "0.png (replaced, image 1)")
    assert (edited.added, edited.removed, edited.at_its_key) == (["tag 3"], ["tag 4"], photos.ids()["0.png"])
    assert (edited.lines, edited.regions, edited.in_datasets) == (1, 1, 1)
    [deleted] = photos.services.images.missing.page(limit=1, cursor=first.next_cursor).items
    assert (deleted.image_id, deleted.key, deleted.added, deleted.at_its_key) == (2, "1.png", ["tag 9"], None)
    assert (edited.keywords, deleted.keywords) == ([], ["Anna's garden"])
    assert photos.services.images.missing.page(str(photos.root)).items == [edited, deleted]


def test_a_person_says_that_an_edited_picture_is_the_same(photos: Photos) -> None:
    now = photos.ids()["0.png"]
    words, record = said(photos, 1), photos.record(now)
    photos.services.corrections.tag([now], add=["tag 5"], by="bob")
    with serving(photos.services) as url, Client(url) as ramq:
        assert [each.image_id for each in ramq.missing().items] == [1, 2]
        answer = ramq.continue_image(1, now)
        assert (answer.image_id, answer.key) == (1, "0.png")
        assert [each.image_id for each in ramq.missing().items] == [2]
        assert ramq.image(now).image_id == 1
    assert photos.ids()["0.png"] == 1
    after = said(photos, 1)
    assert after.pop("tags") == [*words.pop("tags"), ("tag 5", True, "bob")]
    assert after == words
    assert photos.record(1) == record
    assert photos.run().skipped == 2
    assert photos.scalar(
        "SELECT encode(hash, 'hex') = left(encode(sha256, 'hex'), 32) FROM content "
        "JOIN record USING (image_id) WHERE image_id = 1"
    )


def test_what_cannot_be_continued_is_refused_in_words(photos: Photos, tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere/a.png", 9)
    photos.run(str(tmp_path / "elsewhere"))
    other = photos.scalar("SELECT id FROM image WHERE archive_id = 2")
    ids = photos.ids()
    continue_at = photos.services.images.missing.continue_at
    with pytest.raises(UsageError, match="another one of the same archive"):
        continue_at("1", str(other))
    with pytest.raises(UsageError, match="only an image whose file is missing can continue"):
        continue_at("3.png", str(ids["0.png"]))
    with pytest.raises(UsageError, match="the file of image 2 is missing"):
        continue_at("1", "2")
    with pytest.raises(NotFoundError, match="there is no image 99"):
        continue_at("1", "99")


def test_the_page_and_the_command_do_the_same(photos: Photos) -> None:
    web = TestClient(create_app(photos.services), base_url="http://localhost")
    page = web.get("/missing", headers={"Accept": "text/html"})
    assert page.status_code == 200
    for words in ("0.png (replaced, image 1)", "it has: tag 3", "it does not have: tag 4", "1 corrected region"):
        assert words in page.text
    assert "Missing pictures" in web.get("/archives", headers={"Accept": "text/html"}).text
    refused = web.post("/missing/1", data={"at": "nothing"})
    assert refused.status_code == 404
    assert "there is no image" in refused.text
    assert_problem(web.post("/v1/images/1/continue", json={"at": 0}), 422, "invalid-request")
    environment = {
        "RAMQ_DATABASE_URL": photos.services.engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(photos.root.parent / "data"),
    }
    listed = run_here(("missing", "--json"), environment)
    assert [each["image_id"] for each in json.loads(listed.stdout)["items"]] == [1, 2]
    assert run_here(("missing", "1"), environment).returncode == 2
    told = run_here(("missing", "1", "--at", "0.png"), environment)
    assert (told.returncode, told.stdout) == (0, "image 1 continues at 0.png\n"), told.stderr
    done = web.post("/missing/2", data={"at": "3.png"})
    assert "has its file again" in done.text
    assert "No missing pictures" in done.text

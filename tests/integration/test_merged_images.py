"""Links to an image that was merged into another one lead to that one, as long as it exists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from ramq.client import Client, ProblemError
from ramq.web.app import create_app
from storage.database import unit_of_work
from storage.errors import NotFoundError
from storage.results import erasures, merged, moves
from tests.same_picture import Photos, picture
from tests.services.web import assert_problem, serving

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

OLD = 4
"""The number that the new name had. Listed keys that are known take none."""


@pytest.fixture
def photos(services: Services, crop_worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Photos:
    """A picture whose file was renamed, after a job had found its new name and before one missed the old one."""
    photos = Photos(services, crop_worker, tmp_path / "photos", tmp_path / "count")
    for number in range(3):
        picture(photos.root / f"{number}.png", number)
    photos.run()
    photos.services.corrections.tag([1], add=["tag 3"])
    (photos.root / "z").mkdir()
    (photos.root / "0.png").rename(photos.root / "z/0.png")
    monkeypatch.setattr(moves, "settle", lambda *_: moves.Settled(0, None))
    photos.run()
    assert photos.ids()["z/0.png"] == OLD
    monkeypatch.undo()
    photos.run()
    assert photos.ids()["z/0.png"] == 1
    return photos


@pytest.fixture
def web(photos: Photos) -> TestClient:
    return TestClient(create_app(photos.services), base_url="http://localhost", follow_redirects=False)


@pytest.mark.parametrize(
    "path", ["/v1/images/{}", "/images/{}?q=tag", "/v1/images/{}/thumbnail?size=64", "/v1/images/{}/original"]
)
def test_the_old_number_leads_to_the_image_that_lives_on(web: TestClient, path: str) -> None:
    answer = web.get(path.format(OLD))
    assert (answer.status_code, answer.headers["location"]) == (308, path.format(1))
    assert web.get(answer.headers["location"], headers={"Accept": "text/html, */*"}).status_code == 200
    assert web.head(path.format(OLD)).status_code == 308


def test_nothing_is_changed_under_an_old_number(web: TestClient) -> None:
    assert_problem(web.delete(f"/v1/images/{OLD}"), 404, "not-found")
    assert_problem(web.get("/v1/images/40"), 404, "not-found")


def test_the_client_and_the_command_line_follow(photos: Photos) -> None:
    with serving(photos.services) as url, Client(url) as ramq:
        assert ramq.image(OLD).image_id == 1
        assert ramq.thumbnail(OLD)
        with pytest.raises(ProblemError, match="there is no image 40"):
            ramq.image(40)
    assert photos.services.images.find(str(OLD)) == 1
    assert photos.services.images.find_all(["2", str(OLD)]) == [2, 1]


def test_links_to_links_lead_to_the_last_one_and_end_when_it_is_erased(photos: Photos, web: TestClient) -> None:
    with unit_of_work(photos.services.engine) as session:
        merged.note(session, {70: 1})
        merged.note(session, {1: 2})
        erasures.erase(session, [1])
        assert [merged.into(session, number) for number in (1, OLD, 70)] == [2, 2, 2]
    assert web.get("/v1/images/70").headers["location"] == "/v1/images/2"
    photos.services.erasures.delete([2])
    assert photos.scalar("SELECT count(*) FROM merged_image") == 0
    for number in (1, 2, OLD, 70):
        assert_problem(web.get(f"/v1/images/{number}"), 404, "not-found")
    with pytest.raises(NotFoundError):
        photos.services.images.find(str(OLD))

"""The regions of tags in images: told by the API, corrected by people, exported, shown by commands and on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from storage.results.generations import StageSpec
from storage.results.masks import Mask
from storage.results.region_views import FoundRegion
from tests.region_archive import painted
from tests.services.located import LOCATOR, write_regions
from tests.services.web import assert_problem, services_of

if TYPE_CHECKING:
    from starlette.testclient import TestClient


pytestmark = pytest.mark.services

HOSTILE = "</text><script>alert('x')</script>\"&"
CUP = FoundRegion("cup", 0.91, (0.25, 0.25, 0.75, 0.75), painted((0.25, 0.25, 0.75, 0.75)), 0.8)
SPOON = FoundRegion("spoon", 0.5, (0.7, 0.1, 0.9, 0.4))
ODD = FoundRegion(HOSTILE, 0.4, (0.0, 0.8, 0.2, 1.0))


@pytest.fixture
def cup(client: TestClient) -> int:
    """An image in which tags were located."""
    services = services_of(client)
    image_id = services.images.find("coffee.png")
    write_regions(services, image_id, [CUP, SPOON, ODD])
    return image_id


def tags_of(answer: Any) -> list[str]:
    assert answer.status_code in {200, 201}, answer.text
    return [region["tag"] for region in answer.json()["regions"]]


def test_the_regions_of_an_image_are_told_with_their_places_and_masks(client: TestClient, cup: int) -> None:
    told = client.get(f"/v1/images/{cup}/regions").json()
    assert (told["image_id"], told["model"], told["is_cut"], told["corrections"]) == (cup, LOCATOR.model, False, [])
    assert CUP.mask is not None
    assert told["regions"][0] == {
        "number": 1, "tag": "cup", "score": 0.91, "box": [0.25, 0.25, 0.75, 0.75], "mask_quality": 0.8,
        "mask": {"size": [40, 60], "counts": Mask.from_bytes(CUP.mask).counts}, "correction_id": None,
    }  # fmt: skip
    assert (told["regions"][1]["mask"], told["regions"][1]["mask_quality"]) == (None, None)
    assert [region["number"] for region in told["regions"]] == [1, 2, 3]


def test_what_was_not_located_says_how_to_locate_it(client: TestClient, cup: int) -> None:
    cat = services_of(client).images.find("chelsea.png")
    problem = assert_problem(client.get(f"/v1/images/{cat}/regions"), 404, "not-found")
    assert "ramq locate" in problem["detail"]
    assert_problem(client.get("/v1/images/999999/regions"), 404, "not-found")
    assert_problem(client.get(f"/v1/images/{cup}/regions?generation=999"), 404, "not-found")
    assert_problem(client.get(f"/v1/images/{cup}/regions?generation=1"), 404, "not-found")  # it recognises
    body = {"tag": "cat", "box": [0, 0, 1, 1], "is_there": True}
    assert_problem(client.post(f"/v1/images/{cat}/regions/corrections", json=body), 404, "not-found")


def test_another_generation_is_shown_when_it_is_asked_for(client: TestClient, cup: int) -> None:
    other = write_regions(services_of(client), cup, [SPOON], StageSpec("locate", "e" * 64, "owl", "1" * 64, "-"))
    told = client.get(f"/v1/images/{cup}/regions").json()
    assert (told["generation_id"], told["model"], len(told["regions"])) == (other, "owl", 1)
    earlier = client.get(f"/v1/images/{cup}/regions", params={"generation": other - 1})
    assert tags_of(earlier) == ["cup", "spoon", HOSTILE]


def test_a_region_is_rejected_drawn_and_taken_back(client: TestClient, cup: int) -> None:
    path = f"/v1/images/{cup}/regions/corrections"
    answer = client.post(path, json={"tag": "Cup", "box": [0.25, 0.25, 0.74, 0.75], "is_there": False})
    assert answer.status_code == 201
    assert tags_of(answer) == ["spoon", HOSTILE]
    [said] = answer.json()["corrections"]
    assert (said["tag"], said["is_there"], said["said_by"], said["box"]) == (
        "Cup",
        False,
        "local",
        [0.25, 0.25, 0.74, 0.75],
    )
    drawn = client.post(path, json={"tag": "saucer", "box": [0.1, 0.6, 0.8, 0.9], "is_there": True})
    assert tags_of(drawn) == ["spoon", HOSTILE, "saucer"]
    last = drawn.json()["regions"][-1]
    assert (last["score"], last["box"], last["mask"]) == (1, [0.1, 0.6, 0.8, 0.9], None)
    assert tags_of(client.delete(f"{path}/{said['id']}")) == ["cup", "spoon", HOSTILE, "saucer"]
    assert tags_of(client.delete(f"{path}/{last['correction_id']}")) == ["cup", "spoon", HOSTILE]
    assert_problem(client.delete(f"{path}/{said['id']}"), 404, "not-found")


@pytest.mark.parametrize(
    "changed",
    [
        {"tag": ""},
        {"tag": "x" * 201},
        {"box": [0, 0, 1]},
        {"box": [0, 0, 2, 1]},
        {"box": [0.5, 0, 0.5, 1]},
        {"more": 1},
    ],
)
def test_a_correction_of_nothing_is_refused(client: TestClient, cup: int, changed: dict[str, Any]) -> None:
    body = {"tag": "cup", "box": [0, 0, 1, 1], "is_there": True} | changed
    answer = client.post(f"/v1/images/{cup}/regions/corrections", json=body)
    assert answer.status_code == 422, answer.text


def test_the_api_searches_by_regions(client: TestClient, cup: int) -> None:
    found = client.get("/v1/search", params={"q": "count:cup>=1 area:cup>20%"}).json()
    assert [hit["image_id"] for hit in found["items"]] == [cup]
    assert found["items"][0]["regions"] == [{"number": 1, "tag": "cup", "score": 0.91, "box": [0.25, 0.25, 0.75, 0.75]}]
    assert all(hit["regions"] == [] for hit in client.get("/v1/search").json()["items"])
    assert client.get("/v1/search", params={"q": "count:cup>=2"}).json()["items"] == []


# The page -----------------------------------------------------------------------------------------------------------


def page_of(client: TestClient, image_id: int) -> str:
    answer = client.get(f"/images/{image_id}", headers={"accept": "text/html"})
    assert answer.status_code == 200
    return answer.text


def test_the_page_shows_regions_over_the_picture_and_beside_it(client: TestClient, cup: int) -> None:
    page = page_of(client, cup)
    assert page.count('<g id="mark-') == 3
    assert '<rect x="2500" y="2500" width="5000" height="5000"/>' in page
    assert page.count("<path d=") == 1
    assert "M2500 2500H" in page
    assert page.count('class="show-tag') == 3
    assert "<script>alert" not in page
    assert " style=" not in page
    assert "/?q=count%3Acup%3E%3D1" in page
    cat = services_of(client).images.find("chelsea.png")
    assert "regions-title" not in page_of(client, cat)


def test_a_region_is_rejected_on_the_page_and_taken_back(client: TestClient, cup: int) -> None:
    path = f"/images/{cup}/regions"
    answer = client.post(path, data={"say": "reject", "tag": "cup", "box": "0.2500 0.2500 0.7500 0.7500"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/images/{cup}#regions")
    page = page_of(client, cup)
    assert page.count('<g id="mark-') == 2
    assert "rejected by" in page
    [said] = services_of(client).regions.corrections(cup)
    assert client.post(path, data={"say": "nothing", "correction": str(said.id)}).status_code == 303
    assert page_of(client, cup).count('<g id="mark-') == 3
    refused = client.post(path, data={"say": "reject", "tag": "cup", "box": "1 2 x"})
    assert refused.status_code == 422
    assert "a box has four numbers" in refused.text
    assert client.post(path, data={"say": "nothing", "correction": "999"}).status_code == 404

"""The regions of tags in images: told by the API, corrected by people, exported, shown by commands and on the page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from storage.results.generations import StageSpec
from storage.results.masks import Mask
from storage.results.region_views import FoundRegion
from tests.region_archive import painted
from tests.services.located import LOCATOR, write_regions
from tests.services.recognised import CAT
from tests.services.web import assert_problem, services_of

if TYPE_CHECKING:
    from collections.abc import Callable

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
    assert '<rect x="25%" y="25%" width="50%" height="50%"/>' in page
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


DRAWN = {"say": "draw", "tag": "saucer", "left": "12.5", "top": "60", "right": "80", "bottom": "90"}


def test_a_region_is_drawn_on_the_page_and_taken_back(client: TestClient, cup: int) -> None:
    path = f"/images/{cup}/regions"
    answer = client.post(path, data=DRAWN)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/images/{cup}#mark-4")
    region = services_of(client).regions.get(cup).regions[-1]
    assert (region.tag, region.box, region.score) == ("saucer", (0.125, 0.6, 0.8, 0.9), 1)
    assert "drawn by" in page_of(client, cup)
    # It takes the place of what was found there.
    again = client.post(path, data=DRAWN | {"tag": "Cup", "left": "25", "top": "25", "right": "76", "bottom": "74"})
    assert again.headers["location"] == f"/images/{cup}#mark-1"
    undone = client.post(path, data={"say": "nothing", "correction": str(region.correction_id), "number": "4"})
    assert undone.headers["location"] == f"/images/{cup}#region-4"
    assert page_of(client, cup).count('<g id="mark-') == 3


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"left": ""}, "four numbers from 0 to 100"),
        ({"left": "x"}, "four numbers from 0 to 100"),
        ({"left": "-1"}, "each is a number from 0 to 100"),
        ({"right": "101"}, "each is a number from 0 to 100"),
        ({"top": "nan"}, "each is a number from 0 to 100"),
        ({"bottom": "inf"}, "each is a number from 0 to 100"),
        ({"left": "80"}, "left must be less than right"),
        ({"bottom": "50"}, "top less than bottom"),
        ({"tag": " "}, "the name of a tag"),
        ({"tag": "x" * 201}, "at most 200 characters"),
    ],
)
def test_a_drawing_that_is_not_valid_is_refused_and_stays_in_its_form(
    client: TestClient, cup: int, wrong: dict[str, str], why: str
) -> None:
    answer = client.post(f"/images/{cup}/regions", data=DRAWN | wrong)
    assert answer.status_code == 422
    assert answer.text.count('role="alert"') == 1
    assert why in answer.text
    assert '<details class="draw" id="draw" open>' in answer.text
    for name in {"top", "right"} - wrong.keys():
        assert f'name="{name}" value="{DRAWN[name]}"' in answer.text
    assert services_of(client).regions.corrections(cup) == []


def test_only_located_images_are_drawn_on(client: TestClient, cup: int) -> None:
    assert 'id="draw"' in page_of(client, cup)
    cat = services_of(client).images.find("chelsea.png")
    assert 'id="draw"' not in page_of(client, cat)
    assert client.post(f"/images/{cat}/regions", data=DRAWN).status_code == 404
    assert client.post("/images/999999/regions", data=DRAWN).status_code == 404


def test_readers_are_not_offered_to_draw_and_other_sites_cannot(
    make_client: Callable[..., TestClient], client: TestClient, cup: int
) -> None:
    guarded = make_client(api_tokens=("eye:read:r-secret", "hand:write:w-secret"))
    for secret, status in (("r-secret", 403), ("w-secret", 303)):
        guarded.headers["authorization"] = f"Bearer {secret}"
        assert ('id="draw"' in page_of(guarded, cup)) == (status == 303)
        assert guarded.post(f"/images/{cup}/regions", data=DRAWN).status_code == status
    [said] = services_of(client).regions.corrections(cup)
    assert said.said_by == "hand"
    elsewhere = {"sec-fetch-site": "cross-site", "origin": "https://elsewhere.example"}
    assert client.post(f"/images/{cup}/regions", data=DRAWN, headers=elsewhere).status_code == 403


def test_the_page_marks_the_regions_that_the_search_was_about(client: TestClient, cup: int) -> None:
    def found(q: str) -> list[str]:
        answer = client.get(f"/images/{cup}", params={"q": q}, headers={"accept": "text/html"})
        assert answer.status_code == 200
        return re.findall(r'<li id="region-(\d+)" class="[^"]* found"', answer.text)

    assert found("count:cup>=1") == ["1"]
    assert found("count:spoon>5 OR area:CUP>0.1") == ["1", "2"]
    assert found("-count:cup>=1") == found("cup") == found("count:") == found("job:999999") == []


def test_names_of_tags_are_completed(client: TestClient) -> None:
    def options(q: str) -> list[str]:
        answer = client.get("/suggest/tags", params={"q": q})
        assert answer.status_code == 200
        return re.findall(r'data-text="([^"]*)"', answer.text)

    assert options("espr")[0] == "espresso"
    assert options("egyptian c") == [CAT]
    assert options("") == options("\0") == options("x" * 3000) == options("no such thing") == []

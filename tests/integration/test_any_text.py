"""Whatever a person types or pastes is answered: by the API, the page, and its facets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.descriptions import DESCRIPTIONS
from tests.services.recognised import CAT, PHOTOGRAPHS

if TYPE_CHECKING:
    from starlette.testclient import TestClient

pytestmark = pytest.mark.services

HTML = {"accept": "text/html"}

SIGNS = (*'()"-:>#', " ", "OR", "NOT", "tag:", "archive:", "job:9", "like:1", "espresso", CAT)

# The fixtures are read and never changed, so that examples may share them.
many = hypothesis_settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def test_there_are_two_hundred_descriptions() -> None:
    assert len(set(DESCRIPTIONS)) == 200


@pytest.mark.slow
def test_plain_descriptions_are_answered_and_ranked(client: TestClient) -> None:
    for text in DESCRIPTIONS:
        answer = client.get("/v1/search", params={"q": text, "relevance": 0, "limit": 500})
        assert answer.status_code == 200, (text, answer.text)
        scores = [item["score"] for item in answer.json()["items"]]
        assert scores, text
        assert scores == sorted(scores, reverse=True), text


@many
@given(st.text(max_size=2_000))
def test_any_text_is_answered_by_the_api_and_the_page(client: TestClient, text: str) -> None:
    # What is no character cannot be in an address.
    params = {"q": text.encode(errors="replace").decode()}
    for path in ("/v1/search", "/v1/tags", "/"):
        answer = client.get(path, params=params, headers=HTML if path == "/" else {}, follow_redirects=True)
        assert answer.status_code == 200, (path, answer.text)


@many
@given(
    st.lists(st.sampled_from([*'()"-:>#', " ", "OR", "NOT", "tag:", "archive:", "job:9", "like:1", "espresso", CAT]))
)
def test_any_mixture_of_signs_is_answered(client: TestClient, parts: list[str]) -> None:
    for path in ("/v1/search", "/v1/tags"):
        answer = client.get(path, params={"q": "".join(parts)})
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("text", ["x" * 10_000, "\0", "a\0b", "(" * 3_000, '"' * 3_000, "like:2 like:3", "like:99999"])
def test_texts_that_no_query_may_have_are_answered_too(client: TestClient, text: str) -> None:
    for path in ("/v1/search", "/v1/tags", "/"):
        answer = client.get(path, params={"q": text}, headers=HTML if path == "/" else {}, follow_redirects=True)
        assert answer.status_code == 200, (path, answer.text)


def test_prose_that_names_tags_by_accident_is_ranked_as_words(client: TestClient) -> None:
    for text in ("we are #1 fans", '"castle" walls covered with ivy', "tiger OR lion in a cage"):
        answer = client.get("/v1/search", params={"q": text, "relevance": 0}).json()
        facets = client.get("/v1/tags", params={"q": text, "relevance": 0}).json()
        assert answer["total"] == PHOTOGRAPHS + 1, text
        (note,) = answer["notes"]
        assert note["text"].startswith("Searched as words: "), text
        assert "No image matches it together with the rest." in note["text"]
        assert facets["notes"] == answer["notes"]


def test_tags_that_images_have_still_narrow_and_so_do_filters_that_no_image_meets(client: TestClient) -> None:
    narrowed = client.get("/v1/search", params={"q": "a drink (espresso OR castle)", "relevance": 0}).json()
    assert (narrowed["total"], narrowed["notes"]) == (1, [])
    for text in ("a drink after:2999-01-01", "goldfish OR tench", "a drink espresso>0.1 after:2999-01-01"):
        answer = client.get("/v1/search", params={"q": text, "relevance": 0}).json()
        assert (answer["total"], answer["notes"]) == (0, []), text


def test_the_answer_says_how_the_text_was_read(client: TestClient) -> None:
    for path in ("/v1/search", "/v1/tags"):
        answer = client.get(path, params={"q": 'a cat on a sofa "Egyptian cab" -espreso'}).json()
        words, left_out = answer["notes"]
        assert words["text"].startswith('Searched as words: "Egyptian cab". Unknown tag "Egyptian cab". Did you mean')
        assert CAT in words["suggestions"]
        assert left_out["text"].startswith('-espreso excludes nothing. Unknown tag "espreso".')
        assert left_out["suggestions"][0] == "espresso"
        assert client.get(path, params={"q": "tag:espresso"}).json()["notes"] == []


def test_facets_beside_a_text_count_its_hits(client: TestClient) -> None:
    for params in ({"q": "a cat"}, {"q": "espresso"}, {"q": "a cat", "relevance": 0.5}, {"q": "a rocket", "limit": 3}):
        items, cursor = [], ""
        while cursor is not None:
            page = client.get("/v1/search", params={**params, "cursor": cursor}).json()
            items += page["items"]
            cursor = page["next_cursor"]
        counts: dict[str, int] = {}
        for item in items:
            for tag in item["tags"]:
                counts[tag["name"]] = counts.get(tag["name"], 0) + 1
        facets = client.get("/v1/tags", params={**params, "limit": 500}).json()["items"]
        assert {facet["name"]: facet["count"] for facet in facets} == counts, params

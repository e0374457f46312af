"""Search by text on recognised photographs: what it finds, where it ends, and why an image is there."""

from __future__ import annotations

import html
import itertools
import re
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from storage.errors import UsageError
from storage.search.ranking import TAG_WEIGHT
from storage.search.views import SearchQuery
from tests.services.recognised import CAT, PHOTOGRAPHS

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    from ramq.wiring import Services

pytestmark = pytest.mark.services

EVERYTHING = PHOTOGRAPHS + 1


@pytest.fixture
def services(client: TestClient) -> Services:
    return cast("Services", cast("FastAPI", client.app).state.services)


def test_a_text_finds_what_it_speaks_of_and_stops_there(services: Services) -> None:
    page = services.search.page(SearchQuery(text="a cup of coffee"))

    assert page.items[0].key == "coffee.png"
    assert page.total == len(page.items) < EVERYTHING / 2
    assert page.below == EVERYTHING - len(page.items)


@pytest.mark.parametrize("text", ["asdf qwerty", "a spaceship repairing a violin", "quarterly tax return", "??"])
def test_a_text_about_nothing_in_the_archive_finds_nothing(services: Services, text: str) -> None:
    page = services.search.page(SearchQuery(text=text))

    assert (page.items, page.next_cursor, page.total, page.below) == ([], None, 0, EVERYTHING)


def test_what_was_left_out_can_be_had(services: Services) -> None:
    query = SearchQuery(text="asdf qwerty", relevance=0, limit=4)
    page = services.search.page(query)
    seen = [hit.image_id for hit in page.items]
    assert (page.total, page.below) == (EVERYTHING, None)
    while page.next_cursor:
        page = services.search.page(query.after(page.next_cursor))
        seen += [hit.image_id for hit in page.items]

    assert len(seen) == len(set(seen)) == EVERYTHING


def test_a_stricter_relevance_finds_a_part_of_what_a_laxer_one_does(services: Services) -> None:
    found = [
        {hit.image_id for hit in services.search.page(SearchQuery(text="an animal", relevance=share, limit=500)).items}
        for share in (0, 0.5, 0.8, 0.95, 0.99, 1)
    ]

    assert all(stricter <= laxer for laxer, stricter in itertools.pairwise(found))
    assert len(found[0]) > len(found[-1])


def test_a_relevance_that_is_no_share_is_refused(services: Services) -> None:
    with pytest.raises(UsageError, match=r"relevance must be in 0\.\.1, not 95"):
        services.search.page(SearchQuery(text="a cat", relevance=95))


def test_a_hit_says_which_tags_the_text_names(services: Services) -> None:
    (hit, *_) = services.search.page(SearchQuery(text="two Egyptian cats in a garden")).items

    assert hit.key == "chelsea.png"
    assert hit.why is not None
    assert [tag.name for tag in hit.tags if tag.id in hit.why.tags] == [CAT]
    (score,) = [tag.score for tag in hit.tags if tag.name == CAT]
    assert hit.score == pytest.approx(hit.why.similarity + TAG_WEIGHT * score, abs=1e-3)


def test_a_text_that_is_the_name_of_a_tag_finds_every_image_that_has_it(services: Services) -> None:
    tagged = {hit.image_id for hit in services.search.page(SearchQuery(tags=(CAT,), threshold=0.02)).items}
    strict = SearchQuery(text=CAT, relevance=1, threshold=0.02)

    assert {hit.image_id for hit in services.search.page(strict).items} == tagged
    # With another word beside the name it is a description again, and the vector decides.
    assert services.search.page(replace(strict, text=f"{CAT} reading")).items == []


def test_beside_a_tag_that_is_asked_for_the_text_only_orders(services: Services) -> None:
    asked = SearchQuery(any_tags=(CAT, "espresso"))
    both = {hit.image_id for hit in services.search.page(asked).items}
    page = services.search.page(replace(asked, text="a cup of coffee"))

    assert {hit.image_id for hit in page.items} == both
    assert page.items[0].key == "coffee.png"
    assert services.search.page(replace(asked, text="a cup of coffee", relevance=0.95)).total == 1


def test_an_export_by_text_ends_where_the_pages_do(services: Services) -> None:
    query = SearchQuery(text="a cup of coffee", limit=500)

    assert list(services.search.export(query)[1]) == services.search.page(query).items


def test_a_likeness_has_no_end(services: Services) -> None:
    (cat, *_) = services.search.page(SearchQuery(tags=(CAT,))).items
    page = services.search.page(SearchQuery(like=cat.image_id, limit=500))

    assert (len(page.items), page.total, page.below) == (EVERYTHING - 1, EVERYTHING - 1, None)
    assert all(hit.why is not None and hit.why.similarity is None for hit in page.items)
    assert [hit.why.spaces[0].rank for hit in page.items if hit.why] == list(range(1, EVERYTHING))


def test_programs_are_told_where_the_list_ends_and_why_a_hit_is_there(client: TestClient) -> None:
    page = client.get("/v1/search", params={"q": "an espresso"}).json()
    all_of_them = client.get("/v1/search", params={"q": "an espresso", "relevance": 0, "limit": 500}).json()

    assert page["items"][0]["why"]["similarity"] < page["items"][0]["score"]
    (named,) = page["items"][0]["why"]["tags"]
    assert named in {tag["id"] for tag in page["items"][0]["tags"] if tag["name"] == "espresso"}
    assert page["total"] + page["below"] == EVERYTHING
    assert len(all_of_them["items"]) == all_of_them["total"] == EVERYTHING
    assert client.get("/v1/search", params={"q": "cat", "relevance": 2}).status_code == 422


def test_the_page_links_to_what_it_left_out(client: TestClient) -> None:
    for text in ("a cup of coffee", "asdf qwerty"):
        page = client.get("/", params={"q": text}, headers={"Accept": "text/html"}).text
        link, left = re.findall(r'href="/\?([^"]*)">Show (\d+) less similar images?', page)[0]
        everything = client.get("/?" + html.unescape(link), headers={"Accept": "text/html"}).text

        assert page.count('class="hit"') + int(left) == everything.count('class="hit"') == EVERYTHING
        assert "less similar" not in everything
        assert 'name="relevance" form="search" min="0" max="1" step="0.01" value="0"' in everything


def test_the_page_shows_the_tags_that_the_text_names(client: TestClient) -> None:
    page = client.get("/", params={"q": "an espresso"}, headers={"Accept": "text/html"}).text

    assert re.search(r'class="tag asked"[^>]*>espresso <span', page)

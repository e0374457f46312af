"""A search by text agrees with what people said of the tags that the text names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from storage.search.search import Search
from storage.search.views import SearchQuery
from tests.archive_model import ArchiveModel
from tests.services.recognised import CAT
from tests.services.web import services_of
from tests.spoken_checks import check_texts

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from starlette.testclient import TestClient

    from ramq.wiring import Services
    from storage.index.builder import IndexBuilder
    from storage.index.index import VectorIndex
    from storage.search.views import Hit

pytestmark = pytest.mark.services


def hits_of(services: Services, text: str, **more: object) -> list[Hit]:
    query = SearchQuery(text=text, limit=100, **more)  # type: ignore[arg-type]  # as each test names them
    return services.search.page(query).items


def test_any_text_finds_what_its_description_says_while_people_correct(
    engine: Engine, builder: IndexBuilder, index: VectorIndex
) -> None:
    archive = ArchiveModel(engine, images_of_each=40)
    archive.record(0, list(archive.facts))
    assert check_texts(archive, Search(lambda: index)) == 0
    for step in range(8):
        archive.correct(archive.some(archive.facts, 0.15))
        if step == 4:
            builder.publish_new(archive.generations[0], force=True)
            archive.rule()
    assert check_texts(archive, Search(lambda: index)) > 0


def test_an_image_is_not_found_by_a_tag_that_a_person_removed(client: TestClient) -> None:
    services = services_of(client)
    [cat] = [hit.image_id for hit in services.search.page(SearchQuery(tags=(CAT,))).items]
    for text in (CAT, "egyptian cats", "an Egyptian cat that sleeps"):
        assert hits_of(services, text)[0].image_id == cat
    services.corrections.tag([cat], remove=[CAT])
    for text in (CAT, "egyptian cats", "an Egyptian cat that sleeps"):
        assert cat not in {hit.image_id for hit in hits_of(services, text)}
    # It is counted among the images that are not similar enough, and comes last without a cutoff.
    before = services.search.page(SearchQuery(text=CAT))
    every = services.search.page(SearchQuery(text=CAT, relevance=0, limit=100))
    assert before.below is not None
    assert before.total is not None
    assert before.total + before.below == every.total == len(every.items)
    last = every.items[-1]
    assert last.image_id == cat
    assert last.why is not None
    assert last.why.removed == [CAT]
    assert last.score <= every.items[-2].score
    answer = client.get("/v1/search", params={"q": CAT, "relevance": 0, "limit": 100}).json()
    assert answer["items"][-1]["why"]["removed"] == [CAT]
    assert "a person removed Egyptian cat" in client.get("/", params={"q": CAT, "relevance": 0}).text
    # Other words find it as before, and a reset brings it back.
    assert cat in {hit.image_id for hit in hits_of(services, "a fluffy animal", relevance=0)}
    services.corrections.tag([cat], reset=[CAT])
    assert hits_of(services, CAT)[0].image_id == cat


def test_an_image_with_a_tag_that_a_person_added_is_before_those_that_resemble_the_text(client: TestClient) -> None:
    services = services_of(client)
    [cat] = [hit.image_id for hit in services.search.page(SearchQuery(tags=(CAT,))).items]
    every = [hit.image_id for hit in hits_of(services, CAT, relevance=0)]
    least = every[-1]
    assert least not in {hit.image_id for hit in hits_of(services, CAT)}
    services.corrections.tag([least], add=[CAT])
    for text in (CAT, "an Egyptian cat that sleeps"):
        hits = hits_of(services, text)
        assert {hit.image_id for hit in hits[:2]} == {cat, least}
        [hit] = [hit for hit in hits if hit.image_id == least]
        assert hit.why is not None
        assert hit.why.added == [CAT]
        assert [tag.id for tag in hit.tags if tag.name == CAT] == hit.why.tags
        resembling = [other.why.similarity for other in hits[2:] if other.why and other.why.similarity]
        assert hit.score >= max(resembling, default=0) + 0.099
    answer = client.get("/v1/search", params={"q": CAT}).json()
    assert [CAT] in [item["why"]["added"] for item in answer["items"]]
    assert "a person added Egyptian cat" in client.get("/", params={"q": CAT}).text


def test_kinds_count_as_a_search_for_the_tag_counts_them(client: TestClient) -> None:
    services = services_of(client)
    [cat] = [hit.image_id for hit in services.search.page(SearchQuery(tags=(CAT,))).items]
    cats = {hit.image_id for hit in services.search.page(SearchQuery(tags=("cat",), limit=100)).items}
    assert cats == {cat}
    kinds = [tag.name for tag in services.images.get(cat).tags if tag.is_assigned and "cat" in tag.name.lower()]
    [*_, other] = [hit.image_id for hit in hits_of(services, "cat", relevance=0)]
    services.corrections.tag([other], add=[CAT])
    first = hits_of(services, "a cat")[:2]
    assert {hit.image_id for hit in first} == {cat, other}
    # Something of a cat is left as long as one kind is there.
    for tag in kinds:
        assert cat in {hit.image_id for hit in hits_of(services, "a cat")}
        services.corrections.tag([cat], remove=[tag])
    left = {hit.image_id for hit in services.search.page(SearchQuery(tags=("cat",), limit=100)).items}
    assert cat not in left
    assert cat not in {hit.image_id for hit in hits_of(services, "a cat")}


def test_words_in_a_picture_and_further_conditions_count_beside_what_people_said(client: TestClient) -> None:
    services = services_of(client)
    [cat] = [hit.image_id for hit in services.search.page(SearchQuery(tags=(CAT,))).items]
    before = hits_of(services, CAT, prefix="c")
    assert cat in {hit.image_id for hit in before}
    services.corrections.tag([cat], remove=[CAT])
    query = SearchQuery(text=CAT, prefix="c", limit=100)
    assert cat not in {hit.image_id for hit in services.search.page(query).items}
    # With a tag that has to be there, the text only orders.
    [other, *_] = [tag.name for tag in services.images.get(cat).tags if tag.is_assigned] or ["lynx"]
    narrowed = services.search.page(replace(query, prefix=None, tags=(other,)))
    assert [hit.image_id for hit in narrowed.items][-1:] == [cat] or cat not in {
        hit.image_id for hit in services.search.page(SearchQuery(tags=(other,))).items
    }

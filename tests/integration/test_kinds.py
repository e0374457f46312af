"""Tags by their synonyms and kinds, through the API and the page, over recognised photographs."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

import pytest

from ram_core.lite.imagenet import imagenet_vocabulary
from storage.database import unit_of_work
from storage.errors import NotFoundError
from storage.results import generations, vocabularies
from storage.results.vocabularies import VocabularySpec
from storage.search.views import SearchQuery
from tests.services.recognised import CAT
from tests.services.web import services_of

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from ramq.wiring import Services

pytestmark = pytest.mark.services

PHOTO = "chelsea.png"  # of an Egyptian cat


def found(client: TestClient, q: str, **more: Any) -> set[str]:
    response = client.get("/v1/search", params={"q": q, "limit": 500, **more})
    assert response.status_code == 200, response.text
    return {item["key"] for item in response.json()["items"]}


def name(services: Services, synonyms: dict[str, list[str]]) -> None:
    """Give tags of the vocabulary in use further names."""
    own = imagenet_vocabulary()
    others = tuple(tuple(synonyms.get(tag, ())) for tag in own.names)
    spec = VocabularySpec(own.sha256, own.name, own.names, own.names_zh, own.thresholds.tolist(), None, others)
    with unit_of_work(services.engine) as session:
        vocabularies.add(session, spec)


def test_a_synonym_finds_its_tag_in_searches_completions_corrections_and_rules(client: TestClient) -> None:
    services = services_of(client)
    assert found(client, 'tag:"puss of the Nile"', strict=False) != {PHOTO}
    name(services, {CAT: ["puss of the Nile", "埃及猫/尼罗猫"], "espresso": ["short black"]})
    for typed in ("puss of the Nile", "PUSS  OF THE NILE", "埃及猫", "尼罗猫"):
        assert found(client, f'tag:"{typed}"') == {PHOTO}
        assert found(client, "", tag=typed) == {PHOTO}
    assert PHOTO in found(client, f'"short black" OR "{CAT}"')
    assert PHOTO not in found(client, "-尼罗猫")

    options = client.get("/suggest", params={"q": "tag:puss"}).text
    assert f">{CAT} <" in options
    assert "also: puss of the Nile" in options

    cup = services.images.find("coffee.png")
    assert client.put(f"/v1/images/{cup}/tags/尼罗猫", json={"present": True}).status_code == 200
    assert found(client, f'"{CAT}"') == {PHOTO, "coffee.png"}
    assert [said.name for said in services.images.get(cup).corrections] == [CAT.lower()]
    services.corrections.tag([cup], reset=["puss of the Nile"])

    services.policies.put("尼罗猫", "deny")
    assert [rule.name for rule in services.policies.list()] == [CAT.lower()]
    assert found(client, f'tag:"{CAT}"') == set()
    services.policies.clear("埃及猫")
    with pytest.raises(NotFoundError):
        services.policies.clear("埃及猫")


def test_synonyms_are_kept_with_the_vocabulary_and_can_change(client: TestClient) -> None:
    services = services_of(client)
    with unit_of_work(services.engine) as session:
        serving = generations.default(session)
        assert serving is not None
        before = vocabularies.edition(session, serving.vocabulary_id)
    assert services.search.page(SearchQuery(tags=("taxi",))).items == []  # of lite itself
    name(services, {CAT: ["mau"]})
    assert found(client, "tag:mau") == {PHOTO}
    name(services, {CAT: ["nile cat"]})
    assert found(client, 'tag:"nile cat"') == {PHOTO}
    assert client.get("/v1/search", params={"tag": "mau"}).status_code == 422
    name(services, {CAT: ["nile cat"]})
    with unit_of_work(services.engine) as session:
        assert vocabularies.edition(session, serving.vocabulary_id) == before + 2
    _, tags = services.vocabularies.show(str(serving.vocabulary_id))
    assert next(tag.synonyms for tag in tags if tag.name == CAT) == ["nile cat"]


def test_an_upper_tag_finds_its_kinds_and_a_note_says_so(client: TestClient) -> None:
    services = services_of(client)
    assert PHOTO in found(client, "tag:animal")
    assert PHOTO in found(client, "tag:cat")
    assert PHOTO not in found(client, "-tag:animal")
    assert "coffee.png" in found(client, "-tag:animal")
    assert PHOTO in found(client, "tag:feline")  # which is no tag of lite, but above some

    cup = services.images.find("coffee.png")
    services.corrections.tag([cup], add=["tabby"])
    assert "coffee.png" in found(client, "tag:cat")
    cat = imagenet_vocabulary().resolve("cat")[0]
    assert "coffee.png" not in found(client, f"#{cat}")
    services.corrections.tag([cup], reset=["tabby"])

    [note] = client.get("/v1/search", params={"q": "tag:cat"}).json()["notes"]
    assert note["text"].startswith('"cat" also finds its kinds: tabby, tiger cat, Persian cat and ')
    assert f"#{cat} finds this tag alone" in note["text"]
    [note] = client.get("/v1/search", params={"tag": "feline"}).json()["notes"]
    assert note["text"].startswith('No tag is named "feline". It finds its kinds:')
    assert client.get("/v1/search", params={"q": f'tag:"{CAT}"'}).json()["notes"] == []


def test_facets_can_leave_out_what_a_kind_says_already(client: TestClient) -> None:
    services = services_of(client)
    usual = {facet.name: facet.count for facet in services.search.facets(SearchQuery(tags=(CAT,)), 100)}
    assert {CAT, "cat", "animal"} <= usual.keys()
    special = {facet.name for facet in services.search.facets(SearchQuery(tags=(CAT,), special=True), 100)}
    assert CAT in special
    assert not {"cat", "animal"} & special
    items = client.get("/v1/tags", params={"q": f'"{CAT}"', "special": "true"}).json()["items"]
    assert {item["name"] for item in items} == special

    # An image with an upper tag alone keeps it.
    cup = services.images.find("coffee.png")
    services.corrections.tag([cup], add=["animal"])
    counts = {facet.name: facet.count for facet in services.search.facets(SearchQuery(special=True), 500)}
    plain = {facet.name: facet.count for facet in services.search.facets(SearchQuery(), 500)}
    assert 1 <= counts["animal"] < plain["animal"]
    assert counts[CAT] == plain[CAT]
    services.policies.put(CAT, "deny")
    shown = {facet.name for facet in services.search.facets(SearchQuery(special=True, threshold=0.5), 500)}
    assert "cat" in shown
    services.policies.clear(CAT)


def test_the_page_has_a_switch_for_special_facets(client: TestClient) -> None:
    page = client.get("/", headers={"accept": "text/html"}).text
    assert 'href="/?special=1"' in page
    special = client.get("/", params={"special": "1"}, headers={"accept": "text/html"}).text
    facets = re.findall(r'class="facet" href="([^"]*)"', special)
    assert facets
    assert all("special=1" in html.unescape(link) for link in facets)
    assert 'aria-pressed="true"' in special

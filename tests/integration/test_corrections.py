"""What people say of tags counts in every search and survives whatever models do."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.results import generations
from storage.results.tags import UnknownTagError
from storage.results.vocabularies import VocabularySpec
from storage.search.views import SearchQuery
from tests.services.recognised import CAT, recognise
from tests.services.web import assert_problem, services_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.testclient import TestClient

    from ramq.wiring import Services

pytestmark = pytest.mark.services


def with_tag(services: Services, tag: str, **more: object) -> list[int]:
    query = SearchQuery(tags=(tag,), limit=100, **more)  # type: ignore[arg-type]  # as each test names them
    return [hit.image_id for hit in services.search.page(query).items]


def cat_and_cup(services: Services) -> tuple[int, int]:
    [cat] = with_tag(services, CAT)
    return cat, services.images.find("coffee.png")


def test_an_added_tag_is_found_counted_and_shown_whatever_the_threshold(client: TestClient) -> None:
    services = services_of(client)
    cat, cup = cat_and_cup(services)
    answer = client.put(f"/v1/images/{cup}/tags/{quote(CAT)}", json={"present": True})
    assert answer.status_code == 200, answer.text
    [tag] = [tag for tag in answer.json()["tags"] if tag["name"] == CAT]
    assert (tag["score"], tag["source"]) == (1, "person")
    [said] = answer.json()["corrections"]
    assert (said["name"], said["is_present"], said["said_by"]) == (CAT.lower(), True, "local")
    assert with_tag(services, CAT) == [cup, cat]
    assert with_tag(services, CAT, threshold=1.0) == [cup]
    [hit] = services.search.page(SearchQuery(tags=(CAT,), threshold=1.0)).items
    assert hit.score == 1
    assert [tag.name for tag in hit.tags] == [CAT]
    [facet] = [facet for facet in services.search.facets(SearchQuery(), 500) if facet.name == CAT]
    assert facet.count == 2
    assert [tag.name for tag in next(services.search.export(SearchQuery(tags=(CAT,)))[1]).tags].count(CAT) == 1


def test_a_removed_tag_is_gone_until_it_is_taken_back(client: TestClient) -> None:
    services = services_of(client)
    cat, _ = cat_and_cup(services)
    before = services.images.get(cat).tags
    services.corrections.tag([cat], remove=[CAT], by="ann")
    assert with_tag(services, CAT) == []
    assert with_tag(services, CAT, threshold=0.0) != [cat]
    assert CAT not in {tag.name for tag in services.images.get(cat).tags}
    assert cat in {hit.image_id for hit in services.search.page(SearchQuery(not_tags=(CAT,), limit=100)).items}
    [said] = services.images.get(cat).corrections
    assert (said.is_present, said.said_by) == (False, "ann")
    answer = client.delete(f"/v1/images/{cat}/tags/{quote(CAT)}")
    assert answer.json()["corrections"] == []
    assert services.images.get(cat).tags == before
    assert with_tag(services, CAT) == [cat]


def test_a_job_that_records_again_overwrites_no_person(client: TestClient, archive: Path) -> None:
    services = services_of(client)
    cat, cup = cat_and_cup(services)
    services.corrections.tag([cat], remove=[CAT])
    services.corrections.tag([cup], add=[CAT])
    with unit_of_work(services.engine) as session:
        session.execute(text("UPDATE record SET version = 'another', sha256 = '', tags = '{}', scores = '{}'"))
    assert recognise(services, str(archive)).done > 0
    assert with_tag(services, CAT) == [cup]
    assert {tag.source for tag in services.images.get(cat).tags} == {"model"}
    services.corrections.tag([cat, cup], reset=[CAT])
    assert with_tag(services, CAT) == [cat]


def add_generation(services: Services, names: list[str]) -> int:
    """Another model's results: each image has the first tag, in a vocabulary of its own."""
    with unit_of_work(services.engine) as session:
        generation_id = generations.ensure(
            session,
            generations.GenerationSpec("another", "lite", "0" * 64, "squash", "tags", 384),
            VocabularySpec("another", "own", names, [None] * len(names), [0.5] * len(names)),
        )
        values = {"id": generation_id}
        for statement in (
            """INSERT INTO record SELECT image_id, :id, job_id, version, '{0}', '{9000}', caption, captioner, width,
                   height FROM record WHERE generation_id = 1""",
            """INSERT INTO vector (image_id, generation_id, v)
               SELECT image_id, :id, v FROM vector WHERE generation_id = 1""",
        ):
            session.execute(text(statement), values)
    return generation_id


def test_a_correction_holds_under_another_generation_that_knows_the_name(client: TestClient) -> None:
    services = services_of(client)
    cat, cup = cat_and_cup(services)
    services.corrections.tag([cup], add=[CAT])
    services.corrections.tag([cat], remove=["espresso"])
    other = add_generation(services, ["ESPRESSO", "lamp", CAT.upper()])
    assert with_tag(services, CAT, generation=other) == [cup]
    assert cat not in with_tag(services, "espresso", generation=other)
    assert cup in with_tag(services, "espresso", generation=other)
    # A name that only the other vocabulary has can be said, too, and says nothing under the first.
    services.corrections.tag([cat], add=["lamp"])
    services.generations.use(other)
    assert cat in with_tag(services, "lamp")


def test_an_unknown_tag_is_refused_with_near_names_and_nothing_is_kept(client: TestClient) -> None:
    services = services_of(client)
    cat, _ = cat_and_cup(services)
    problem = assert_problem(
        client.put(f"/v1/images/{cat}/tags/egyptian+cta", json={"present": True}), 422, "unknown-tag"
    )
    assert CAT in problem["detail"]
    with pytest.raises(UnknownTagError, match="vocab add"):
        services.corrections.tag([cat], remove=[CAT], add=["no such thing"])
    assert services.images.get(cat).corrections == []
    with pytest.raises(UsageError, match="more than once"):
        services.corrections.tag([cat], add=[CAT], remove=[CAT.upper()])
    with pytest.raises(NotFoundError, match="no image 999999"):
        services.corrections.tag([cat, 999999], add=[CAT])
    assert services.images.get(cat).corrections == []


def test_who_says_it_is_the_name_of_the_token_and_reading_is_not_enough(
    make_client: Callable[..., TestClient],
) -> None:
    client = make_client(api_tokens=("ann:write:a-secret", "eve:read:e-secret"))
    services = services_of(client)
    cat, _ = cat_and_cup(services)
    path = f"/v1/images/{cat}/tags/{quote(CAT)}"
    refused = client.put(path, json={"present": False}, headers={"Authorization": "Bearer e-secret"})
    assert_problem(refused, 403, "forbidden")
    said = client.put(path, json={"present": False}, headers={"Authorization": "Bearer a-secret"}).json()
    assert said["corrections"][0]["said_by"] == "ann"


def test_the_page_removes_adds_and_takes_back_with_plain_forms(client: TestClient) -> None:
    services = services_of(client)
    cat, _ = cat_and_cup(services)
    page = client.get(f"/images/{cat}").text
    assert "lite, generation 1" in page
    posted = client.post(f"/images/{cat}/tags", data={"name": CAT, "say": "absent"})
    assert (posted.status_code, posted.headers["location"]) == (303, f"/images/{cat}")
    assert "removed by you on" in client.get(f"/images/{cat}").text
    assert with_tag(services, CAT) == []
    assert client.post(f"/images/{cat}/tags", data={"name": CAT, "say": "present"}).status_code == 303
    assert "added by you on" in client.get(f"/images/{cat}").text
    assert client.post(f"/images/{cat}/tags", data={"name": CAT, "say": "nothing"}).status_code == 303
    assert "by you on" not in client.get(f"/images/{cat}").text
    refused = client.post(f"/images/{cat}/tags", data={"name": "no such thing", "say": "present"})
    assert refused.status_code == 422
    assert "Unknown tag" in refused.text
    foreign = client.post(
        f"/images/{cat}/tags", data={"name": CAT, "say": "absent"}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert foreign.status_code == 403
    assert with_tag(services, CAT) == [cat]


# Which tags count -----------------------------------------------------------------------------------------------------


def test_a_denied_tag_is_not_found_counted_shown_or_exported(client: TestClient) -> None:
    services = services_of(client)
    cat, cup = cat_and_cup(services)
    services.corrections.tag([cup], add=[CAT])
    path = f"/v1/policies/{quote(CAT)}"
    [rule] = client.put(path, params={"archive": "1"}, json={"kind": "deny"}).json()["items"]
    assert (rule["name"], rule["kind"], rule["said_by"]) == (CAT.lower(), "deny", "local")
    assert with_tag(services, CAT) == []
    assert CAT not in {facet.name for facet in services.search.facets(SearchQuery(), 500)}
    assert CAT not in {tag.name for tag in services.images.get(cat).tags}
    for hit in services.search.export(SearchQuery())[1]:
        assert CAT not in {tag.name for tag in hit.tags}
    assert {cat, cup} <= {hit.image_id for hit in services.search.page(SearchQuery(not_tags=(CAT,), limit=100)).items}
    assert client.delete(path, params={"archive": "1"}).json()["items"] == []
    assert with_tag(services, CAT) == [cup, cat]
    assert_problem(client.delete(path, params={"archive": "1"}), 404, "not-found")


def test_where_a_tag_is_allowed_no_other_counts(client: TestClient) -> None:
    services = services_of(client)
    cat, _ = cat_and_cup(services)
    services.policies.put(CAT, "allow", by="ann")
    assert [(facet.name, facet.count) for facet in services.search.facets(SearchQuery(), 500)] == [(CAT, 1)]
    assert with_tag(services, CAT) == [cat]
    services.policies.put(CAT, "deny", "1")
    assert services.search.facets(SearchQuery(), 500) == []
    with pytest.raises(UnknownTagError):
        services.policies.put("no such thing", "deny")

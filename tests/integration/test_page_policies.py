"""The screen of policies says and changes which tags count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.errors import UsageError
from storage.results.tags import UnknownTagError
from storage.search.views import SearchQuery
from tests.services.recognised import CAT
from tests.services.web import services_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.testclient import TestClient

pytestmark = pytest.mark.services

SCREEN = "/archives/policies"


def counts(client: TestClient, tag: str) -> bool:
    return tag in {facet.name for facet in services_of(client).search.facets(SearchQuery(), 500)}


def test_a_rule_is_added_and_taken_back(client: TestClient) -> None:
    assert "No tag rules yet" in client.get(SCREEN).text
    for archive in ("", "1"):
        added = client.post(SCREEN, data={"tag": CAT, "say": "deny", "archive": archive})
        assert (added.status_code, added.headers["location"]) == (303, SCREEN)
        assert not counts(client, CAT)
        [rule] = services_of(client).policies.list()
        shown = client.get(SCREEN).text
        assert "denied" in shown
        assert f'name="archive" value="{rule.archive or ""}"' in shown

        data = {"tag": rule.name, "say": "nothing", "archive": rule.archive or ""}
        assert client.post(SCREEN, data=data).status_code == 303
        assert counts(client, CAT)


def test_a_tag_that_is_no_thing_is_shown_beside_its_other_rule(client: TestClient) -> None:
    for say in ("no_thing", "deny"):
        assert client.post(SCREEN, data={"tag": CAT, "say": say}).status_code == 303
    shown = client.get(SCREEN).text
    assert ("no thing" in shown, "denied" in shown, "Only these tags" in shown) == (True, True, False)
    assert not counts(client, CAT)
    client.post(SCREEN, data={"tag": CAT, "say": "nothing", "kind": "deny"})
    assert counts(client, CAT)
    assert [rule.kind for rule in services_of(client).policies.list()] == ["no_thing"]
    put = client.put(f"/v1/policies/{CAT}", json={"kind": "allow"}).json()["items"]
    assert [rule["kind"] for rule in put] == ["allow", "no_thing"]
    left = client.delete(f"/v1/policies/{CAT}", params={"kind": "no_thing"}).json()["items"]
    assert [rule["kind"] for rule in left] == ["allow"]
    assert client.delete(f"/v1/policies/{CAT}").json()["items"] == []


def test_where_a_tag_is_allowed_the_screen_says_that_no_other_counts(client: TestClient) -> None:
    client.post(SCREEN, data={"tag": CAT, "say": "allow"})
    assert counts(client, CAT)
    assert not counts(client, "espresso")
    assert "Only these tags are shown" in client.get(SCREEN).text


def test_what_cannot_be_a_rule_is_refused_on_the_screen(client: TestClient) -> None:
    unknown = client.post(SCREEN, data={"tag": "Egyptian cab", "say": "deny"}, headers={"accept": "text/html"})
    assert unknown.status_code == 422
    assert CAT in unknown.text
    assert 'value="Egyptian cab"' in unknown.text
    twice = client.post(SCREEN, data={"tag": CAT, "say": "nothing"}, headers={"accept": "text/html"})
    assert twice.status_code == 404
    assert "there is no rule" in twice.text
    [archive] = services_of(client).archives.list()
    with pytest.raises(UsageError, match="the source is empty"):
        services_of(client).policies.put(CAT, "deny", "")
    with pytest.raises(UsageError, match="a whole archive"):
        services_of(client).policies.put(CAT, "deny", f"{archive.uri}/odd")
    assert services_of(client).policies.list() == []


def test_a_rule_goes_though_its_vocabulary_is_gone(client: TestClient) -> None:
    services = services_of(client)
    with unit_of_work(services.engine) as session:
        session.execute(text("INSERT INTO tag_policy (name, kind, said_by) VALUES ('an old word', 'deny', 'ann')"))
    assert "an old word" in client.get(SCREEN).text
    assert client.post(SCREEN, data={"tag": "an old word", "say": "nothing"}).status_code == 303
    assert services.policies.list() == []
    with pytest.raises(UnknownTagError):
        services.policies.clear("an old word")


def test_a_tag_that_was_added_but_does_not_count_is_not_lost_from_sight(
    client: TestClient, make_client: Callable[..., TestClient]
) -> None:
    services = services_of(client)
    cup = services.images.find("coffee.png")
    services.corrections.tag([cup], add=[CAT], by="ann")
    assert "not in use here" not in client.get(f"/images/{cup}").text
    services.policies.put(CAT, "deny")
    page = make_client().get(f"/images/{cup}").text
    assert "not in use here" in page
    assert "added by ann" in page
    assert f'href="{SCREEN}"' in page


def test_a_composed_caption_names_no_tag_that_is_denied(client: TestClient) -> None:
    services = services_of(client)
    image_id = services.images.find("chelsea.png")

    def captions() -> set[str | None]:
        [hit] = [hit for hit in services.search.page(SearchQuery(limit=500)).items if hit.image_id == image_id]
        return {hit.caption, services.images.get(image_id).caption}

    [before] = captions()
    assert before is not None
    assert CAT in before
    client.post(SCREEN, data={"tag": CAT, "say": "deny"})
    [denied] = captions()
    assert CAT not in (denied or "")
    client.post(SCREEN, data={"tag": CAT, "say": "nothing"})
    assert captions() == {before}

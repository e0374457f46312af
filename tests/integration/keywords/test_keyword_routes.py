"""Keywords over HTTP: the API, the typed client, and the pages without scripts."""

from __future__ import annotations

import re
from html import unescape

import pytest
from starlette.testclient import TestClient

from ramq.client import Client, ProblemError
from ramq.web.app import create_app
from ramq.web.tokens import make_token
from ramq.wiring import Services
from storage.results import keyword_acts
from tests.services.web import assert_problem, serving

pytestmark = pytest.mark.services

HTML = {"accept": "text/html"}


@pytest.fixture
def client(told: Services) -> TestClient:
    return TestClient(create_app(told), base_url="http://localhost", follow_redirects=False)


def test_one_image_gets_and_loses_a_keyword(client: TestClient, told: Services) -> None:
    image_id = told.images.find("2023/c.jpg")
    answer = client.put(f"/v1/images/{image_id}/keywords/day off/on")
    assert answer.status_code == 200, answer.text
    [given] = answer.json()["keywords"]
    assert (given["word"], given["said_by"]) == ("day off/on", "local")
    assert answer.json()["metadata"]["keywords"] == ["Österreich", "Places|Graz"]
    hits = client.get("/v1/search", params={"q": 'keyword:"Day off/on"'}).json()["items"]
    assert [(hit["image_id"], hit["keywords"], hit["told"]) for hit in hits] == [
        (image_id, ["day off/on"], [{"source": "person", "text": "day off/on", "spans": []}])
    ]
    assert client.delete(f"/v1/images/{image_id}/keywords/DAY OFF%2Fon").json()["keywords"] == []


def test_many_images_are_changed_in_steps_and_the_act_undone(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ramq.services.keywords.IMAGES_AT_ONCE", 2)
    monkeypatch.setattr(keyword_acts, "IMAGES_AT_ONCE", 2)
    monkeypatch.setattr("ramq.web.api.keywords.STEP_SECONDS", 0)
    act = client.post("/v1/keywords/acts", params={"q": "taken:2023"}, json={"add": ["trip"]}).json()
    assert (act["state"], act["seen"], act["images"], act["query"]) == ("unfinished", 2, 3, "taken:2023")
    assert client.post(f"/v1/keywords/acts/{act['id']}/continue").json()["state"] == "done"
    assert client.get("/v1/keywords").json()["items"] == [{"word": "trip", "images": 3}]
    undoing = client.post(f"/v1/keywords/acts/{act['id']}/undo").json()
    while undoing["state"] == "undoing":
        undoing = client.post(f"/v1/keywords/acts/{act['id']}/continue").json()
    assert (undoing["state"], undoing["undone_by"]) == ("undone", "local")
    assert client.get("/v1/keywords").json()["items"] == []
    assert [one["id"] for one in client.get("/v1/keywords/acts").json()["items"]] == [act["id"]]
    assert client.get(f"/v1/keywords/acts/{act['id']}").json() == undoing


def test_requests_that_do_not_say_which_images_change_nothing(client: TestClient) -> None:
    for parameters, body in (
        ({}, {"add": ["x"]}),
        ({"q": "taken:2023"}, {"add": ["x"], "images": [1]}),
        ({"q": "taken:2023"}, {"add": ["x"], "everything": True}),
        ({"q": "taken:2023 ("}, {"add": ["x"]}),
        ({"q": "taken:1900"}, {"add": ["x"]}),
        ({"q": "taken:2023"}, {"add": []}),
        ({"q": "taken:2023"}, {"add": ["x"], "remove": ["X"]}),
    ):
        assert client.post("/v1/keywords/acts", params=parameters, json=body).status_code == 422, (parameters, body)
    assert_problem(client.post("/v1/keywords/acts/5/undo"), 404, "not-found")
    assert client.get("/v1/keywords/acts").json()["items"] == []
    everything = client.post("/v1/keywords/acts", json={"add": ["x"], "everything": True})
    assert everything.json()["changed"] == 6


def test_the_typed_client_does_the_same(told: Services) -> None:
    ids = [told.images.find(key) for key in ("2022/a.jpg", "2023/b.jpg")]
    with serving(told) as url, Client(url) as ramq:
        given = ramq.give_keywords(["Dom zu Wien"], images=ids)
        assert (given.changed, given.what) == (2, "give Dom zu Wien")
        ramq.give_keywords(["trip"], text="taken:2023")
        assert [(one.word, one.images) for one in ramq.keywords().items] == [("trip", 3), ("Dom zu Wien", 2)]
        assert ramq.rename_keyword("trip", "journey").changed == 3
        assert ramq.remove_keywords(["journey"], images=ids).changed == 1
        assert ramq.give_keyword(ids[0], "a?b#c").keywords[-1].word == "a?b#c"
        assert [one.word for one in ramq.remove_keyword(ids[0], "a?b#c").keywords] == ["Dom zu Wien"]
        assert ramq.undo_keywords(given.id).state == "undone"
        assert [hit.image_id for hit in ramq.search('keyword:"dom zu wien"')] == []
        assert ramq.keyword_history(limit=1).items[0].removed == ["a?b#c"]
        with pytest.raises(ProblemError, match="no change of keywords"):
            ramq.undo_keywords(99)


def test_a_token_that_reads_changes_no_keywords(told: Services) -> None:
    tokens = {scope: make_token(scope, scope) for scope in ("read", "write")}
    settings = told.settings.model_copy(update={"api_tokens": tuple(entry for _, entry in tokens.values())})
    app = create_app(Services(settings, told.engine, None, is_reachable=False))
    client = TestClient(app, base_url="http://localhost", follow_redirects=False)
    for scope, status in (("read", 403), ("write", 200)):
        headers = {"authorization": f"Bearer {tokens[scope][0]}"}
        body = {"add": [scope], "everything": True}
        assert client.post("/v1/keywords/acts", json=body, headers=headers).status_code == status
        assert client.get("/v1/keywords", headers=headers).status_code == 200
    [act] = client.get("/v1/keywords/acts", headers=headers).json()["items"]
    assert act["said_by"] == "write"


def form_of(page: str, action: str) -> str:
    return page[page.index(f'action="{action}') :].partition("</form>")[0]


def test_the_page_of_an_image_gives_and_removes_keywords(client: TestClient, told: Services) -> None:
    image_id = told.images.find("2023/c.jpg")
    answer = client.post(f"/images/{image_id}/keywords", data={"say": "give", "words": "trip, <b>x</b> ,; 猫、狗"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/images/{image_id}#keywords")
    page = client.get(f"/images/{image_id}", headers=HTML).text
    section = page.partition('id="keywords-title"')[2].partition("</section>")[0]
    assert "&lt;b&gt;x&lt;/b&gt;" in section
    assert 'href="/?q=keyword%3Atrip"' in section
    assert section.count("Remove keyword: ") == 4
    assert "given by you" in section
    client.post(f"/images/{image_id}/keywords", data={"say": "remove", "words": "trip"})
    assert told.keywords.words([image_id])[image_id] == ["<b>x</b>", "狗", "猫"]
    refused = client.post(f"/images/{image_id}/keywords", data={"say": "give", "words": "y" * 300})
    assert refused.status_code == 422
    assert "at most 200 characters" in refused.text
    assert client.post("/images/999/keywords", data={"say": "give", "words": "x"}).status_code == 404


def test_the_search_page_gives_keywords_to_ticked_shown_and_all_images(client: TestClient, told: Services) -> None:
    page = client.get("/", params={"q": "taken:2023", "limit": 2}, headers=HTML).text
    action = unescape(re.search(r'id="give" method="post" action="([^"]+)"', page)[1])  # type: ignore[index]
    back = unescape(re.search(r'name="back" value="([^"]+)"', page)[1])  # type: ignore[index]
    shown = re.findall(r'name="shown" value="(\d+)"', page)
    assert (len(shown), page.count('name="image" value=')) == (2, 2)
    assert "all 3 images" in page
    for which, count in (("chosen", 1), ("shown", 2), ("all", 3)):
        sent = {"say": "give", "words": which, "which": which, "shown": shown, "image": shown[:1], "back": back}
        answer = client.post(action, data=sent)
        assert answer.status_code == 303, answer.text
        result = client.get(answer.headers["location"], headers=HTML).text
        assert f"{count} image" in result
        assert 'href="/?q=taken%3A2023"' in result
    assert [one.images for one in told.keywords.list().items] == [3, 2, 1]
    found = client.get("/", params={"q": "keyword:chosen"}, headers=HTML).text
    assert "Keyword that a person gave: " in found
    taken = client.post(action, data={"say": "remove", "words": "shown", "which": "all"})
    undone = client.post(f"{taken.headers['location']}/undo")
    assert "Undone by you" in client.get(undone.headers["location"], headers=HTML).text
    assert 'aria-label="Redo 4' in client.get(undone.headers["location"], headers=HTML).text
    redone = client.post(f"{taken.headers['location']}/redo")
    assert "you redid it" in client.get(redone.headers["location"], headers=HTML).text
    client.post(f"{taken.headers['location']}/undo")
    assert client.post(f"/v1{taken.headers['location']}/redo").json()["state"] == "done"
    assert_problem(client.post(f"/v1{taken.headers['location']}/redo"), 422, "usage")
    nobody = client.post(action, data={"say": "give", "words": "x", "which": "chosen"})
    assert nobody.status_code == 422
    assert "no image is ticked" in nobody.text
    assert "3 images" in nobody.text, "the search is shown with the message"
    assert 'value="x"' in nobody.text
    long = {"say": "give", "words": "y" * 300, "which": "chosen", "image": shown[:1]}
    kept = client.post(action, data=long).text
    assert "at most 200 characters" in kept
    assert len(re.findall(r'name="image" value="\d+" checked', kept)) == 1
    elsewhere = client.post(action, data={"say": "give", "words": "x", "which": "all", "back": "//evil.example"})
    assert "evil" not in elsewhere.headers["location"]


def test_the_page_of_keywords_lists_renames_and_undoes(client: TestClient, told: Services) -> None:
    empty = client.get("/keywords", headers=HTML).text
    assert "Nobody has given a keyword yet" in empty
    told.keywords.go_on(told.keywords.begin([told.images.find("2023/c.jpg")], add=["brige"], by="ann").id)
    page = client.get("/keywords", headers=HTML).text
    assert "ann" in page
    assert "Undo 1: give brige" in page
    renamed = client.post("/keywords/rename", data={"old": "brige", "new": "bridge"})
    assert renamed.headers["location"] == "/keywords/acts/2"
    assert [one.word for one in told.keywords.list().items] == ["bridge"]
    assert client.post("/keywords/rename", data={"old": "brige", "new": "x"}).status_code == 422
    assert "bridge" in client.get("/keywords", params={"beginning": "BRI"}, headers=HTML).text


def test_an_unfinished_act_is_continued_from_its_page(
    client: TestClient, told: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ramq.services.keywords.IMAGES_AT_ONCE", 2)
    monkeypatch.setattr("ramq.web.pages.keywords.STEP_SECONDS", 0)
    where = client.post("/keywords", data={"say": "give", "words": "all", "which": "all"}).headers["location"]
    page = client.get(where, headers=HTML).text
    assert "2 of 6 images are done" in page
    assert f'action="{where}/continue"' in page
    for _ in range(2):
        client.post(f"{where}/continue")
    assert "6 images of 6 changed" in client.get(where, headers=HTML).text

"""What the API makes of parameters that are blank, far too long, of another route, or not its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.services.recognised import CAT, PHOTOGRAPHS
from tests.services.web import assert_problem, job_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from httpx2 import Response
    from starlette.testclient import TestClient

pytestmark = pytest.mark.services

DIGITS = "9" * 5_000
"""More than Python reads as a number."""

SEARCH = "q=&tag=&any=&not=&like=&archive=&job=&prefix=&threshold=&limit=&cursor="
"""The query string of the contract, with nothing filled in."""

LOW = {"threshold": 0}
"""Every tag that was stored counts, which is more of them than a page has."""


def operations(client: TestClient) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every operation of the API."""
    for path, methods in client.get("/v1/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def parameters(operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in operation.get("parameters", []) if each["in"] == "query"}


def _body(answer: Response) -> dict[str, Any]:
    """Return the body without what differs from request to request."""
    return {name: value for name, value in answer.json().items() if name != "trace_id"}


# Blank ----------------------------------------------------------------------------------------------------------------


def test_a_blank_limit_is_as_if_none_were_given(client: TestClient, archive: Path) -> None:
    tried = 0
    for method, path, operation in operations(client):
        taken = parameters(operation)
        if "limit" not in taken:
            continue
        address = path.format(job_id=job_of(client)["id"], name="no-such", tag="cat")
        needed = {name: 1 for name, each in taken.items() if each.get("required")}
        picture = {"content": (archive / "chelsea.png").read_bytes()} if method == "POST" else {}
        unset = client.request(method, address, params=needed, **picture)

        blank = client.request(method, address, params={**needed, "limit": ""}, **picture)

        assert (blank.status_code, _body(blank)) == (unset.status_code, _body(unset)), path
        assert blank.json().get("type") != "urn:ramq:problem:invalid-request", path
        tried += 1
    assert tried >= 6


def test_a_form_sent_empty_narrows_nothing(client: TestClient) -> None:
    assert client.get(f"/v1/search?{SEARCH}").json()["total"] == PHOTOGRAPHS + 1
    assert client.get(f"/v1/tags?{SEARCH}").json() == client.get("/v1/tags").json()


def test_the_document_tells_how_many_tags_come_if_nobody_says(client: TestClient) -> None:
    [limit] = [parameters(operation)["limit"] for _, path, operation in operations(client) if path == "/v1/tags"]

    assert limit["schema"]["default"] == len(client.get("/v1/tags", params=LOW).json()["items"]) == 50


# Pages of tags --------------------------------------------------------------------------------------------------------


def test_pages_of_tags_hold_every_tag_exactly_once(client: TestClient) -> None:
    everything = client.get("/v1/tags", params={**LOW, "limit": 500}).json()["items"]
    asked: dict[str, Any] = {**LOW, "limit": 40}
    seen = []
    while True:
        page = client.get("/v1/tags", params=asked).json()
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        assert len(page["items"]) == 40
        asked["cursor"] = page["next_cursor"]

    assert len(seen) > 80
    assert seen[:500] == everything
    assert len({tag["id"] for tag in seen}) == len(seen)


def test_a_page_of_tags_is_the_last_only_if_no_tag_follows(client: TestClient) -> None:
    narrowed = {"archive": "1", "limit": 500}
    count = len(client.get("/v1/tags", params=narrowed).json()["items"])

    exact = client.get("/v1/tags", params={**narrowed, "limit": count}).json()
    less = client.get("/v1/tags", params={**narrowed, "limit": count - 1}).json()
    rest = client.get("/v1/tags", params={**narrowed, "cursor": less["next_cursor"]}).json()

    assert (len(exact["items"]), exact["next_cursor"]) == (count, None)
    assert [*less["items"], *rest["items"]] == exact["items"]
    assert rest["next_cursor"] is None


def test_tags_and_searches_refuse_each_others_cursors(client: TestClient) -> None:
    of_tags = client.get("/v1/tags", params={"limit": 1}).json()["next_cursor"]
    of_searches = [
        client.get("/v1/search", params={"limit": 1, **query}).json()["next_cursor"]
        for query in ({}, {"q": "coffee", "relevance": 0}, {"like": 1})
    ]
    assert all([of_tags, *of_searches])

    refused = [client.get("/v1/tags", params={"cursor": cursor}) for cursor in [*of_searches, "nobody-gave-this"]]
    refused += [client.get("/v1/search", params={"cursor": of_tags, **query}) for query in ({}, {"q": "coffee"})]

    details = {assert_problem(response, 422, "usage")["detail"] for response in refused}
    assert all(detail.startswith("the cursor does not belong to this search") for detail in details)


# Numbers that are no numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [DIGITS, DIGITS[:1_999]])
def test_thousands_of_digits_are_a_problem_of_whoever_sends_them(client: TestClient, digits: str) -> None:
    for path in ("/v1/search", "/v1/tags"):
        for name in ("tag", "any", "not", "like", "archive", "job", "threshold", "relevance", "limit", "cursor"):
            assert_refused(client, "GET", path, params={name: digits})


@pytest.mark.parametrize("digits", [DIGITS, DIGITS[:1_980]])
def test_thousands_of_digits_in_the_query_language_are_one_too(client: TestClient, digits: str) -> None:
    for field in ("job", "like", "generation", "archive", "tag", "score", "after"):
        assert_refused(client, "GET", "/v1/search", params={"q": f"{field}:{digits}", "strict": True})
        assert client.get("/v1/search", params={"q": f"{field}:{digits}"}).status_code == 200


def test_thousands_of_digits_in_an_address_or_a_header_are_one_too(client: TestClient) -> None:
    for method, path, operation in operations(client):
        needed = {name: DIGITS for name, each in parameters(operation).items() if each.get("required")}
        if "{" in path or needed:
            names = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
            assert_refused(client, method, path.format(**dict.fromkeys(names, DIGITS)), params=needed)
    assert_refused(client, "POST", "/v1/jobs", headers={"content-length": DIGITS})
    assert_refused(client, "POST", "/v1/jobs", content=f'{{"source": {DIGITS}}}')
    assert_refused(client, "PUT", f"/v1/policies/{CAT}", params={"archive": DIGITS}, json={"kind": "deny"})
    assert_refused(client, "GET", "/v1/generations/compare", params={"a": 1, "b": 2, "archive": DIGITS})
    assert_refused(client, "GET", f"/v1/jobs/{job_of(client)['id']}/failures", params={"cursor": DIGITS})


def assert_refused(client: TestClient, method: str, path: str, **sent: Any) -> None:
    response = client.request(method, path, **sent)
    assert 400 <= response.status_code < 500, (method, path[:40], response.status_code, response.text[:400])
    assert response.headers["content-type"] == "application/problem+json"


# What erases ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["archive=", "archive=%20", "prefix=", "prefix=2024/", "job=1"])
def test_nothing_is_erased_by_a_request_that_may_have_meant_less(client: TestClient, query: str) -> None:
    client.put(f"/v1/policies/{CAT}", json={"kind": "deny"})
    paths = [path for method, path, _ in operations(client) if method == "DELETE"]
    assert len(paths) >= 4
    for path in paths:
        address = path.format(
            image_id=1,
            generation_id=1,
            archive_id=1,
            tag=CAT,
            correction_id=1,
            name="pets",
            watch_id=1,
            word="wedding",
            token_id=1,
            kind="images_waiting",
        )

        problem = assert_problem(client.delete(f"{address}?{query}"), 422, "invalid-request")

        assert [field["field"] for field in problem["errors"]] == [f"query.{query.partition('=')[0]}"]

    assert client.get("/v1/images/1").status_code == 200
    assert len(client.get("/v1/generations").json()["items"]) == 1
    assert [rule["archive"] for rule in client.get("/v1/policies").json()["items"]] == [None]


def test_a_rule_of_all_archives_is_meant_only_where_no_archive_is_named(client: TestClient) -> None:
    refused = client.put(f"/v1/policies/{CAT}", params={"archive": ""}, json={"kind": "deny"})

    assert "omit it for all archives" in assert_problem(refused, 422, "invalid-request")["detail"]
    assert client.get("/v1/policies").json()["items"] == []
    assert client.put(f"/v1/policies/{CAT}", params={"archive": "1"}, json={"kind": "deny"}).status_code == 200
    assert_problem(client.delete(f"/v1/policies/{CAT}"), 404, "not-found")
    assert client.delete(f"/v1/policies/{CAT}", params={"archive": "1"}).json()["items"] == []

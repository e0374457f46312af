from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from starlette.testclient import TestClient

from ramq.web.app import create_app
from ramq.web.security import MAX_BODY_BYTES, MAX_UPLOAD_BYTES
from ramq.web.server import listen, url_of
from ramq.wiring import Services
from storage.database import make_engine
from storage.errors import UsageError
from tests.services.recognised import settings_for
from tests.services.web import assert_problem, services_of, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.services

TOKEN = "a-token-for-tests"


def test_everything_but_health_needs_a_token_when_tokens_are_set(make_client: Callable[..., TestClient]) -> None:
    client = make_client(api_tokens=(TOKEN, "another"))
    bearer = {"authorization": f"Bearer {TOKEN}"}

    for path in ("/v1/jobs", "/v1/search", "/v1/openapi.json", "/v1/images/1/thumbnail", "/metrics", "/v1/nothing"):
        refused = client.get(path)
        assert_problem(refused, 401, "unauthorized")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert client.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
        assert client.get(path, headers=bearer).status_code != 401
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").json() == {"database": "ok", "broker": "ok", "index": "ok"}
    elsewhere = {**bearer, "host": "photos.example.org"}
    assert client.get("/v1/jobs", headers=elsewhere).status_code == 200


def test_a_token_does_what_its_scope_includes_also_through_the_page(
    make_client: Callable[..., TestClient], archive: Path
) -> None:
    client = make_client(api_tokens=("eye:read:r-secret", "hand:write:w-secret", "head:admin:a-secret"))
    new = {"source": str(archive)}

    def status(secret: str, method: str, path: str, **more: Any) -> int:
        return client.request(method, path, headers={"authorization": f"Bearer {secret}"}, **more).status_code

    assert status("r-secret", "GET", "/v1/search") == 200
    refused = client.post("/v1/jobs", json=new, headers={"authorization": "Bearer r-secret"})
    assert_problem(refused, 403, "forbidden")
    assert "scope write; eye has read" in refused.json()["detail"]
    assert status("w-secret", "POST", "/v1/jobs", json=new) == 201
    assert status("w-secret", "DELETE", "/v1/images/1") == 403
    assert status("a-secret", "DELETE", "/v1/images/1") in {200, 404}

    client.post("/login", data={"token": "r-secret"})
    assert client.get("/jobs").status_code == 200
    assert client.post("/jobs", data=new).status_code == 403


def test_who_asks_too_often_is_told_when_to_come_back(make_client: Callable[..., TestClient]) -> None:
    client = make_client(api_tokens=("ann:read:first-secret", "bob:read:second-secret"), rate_limit=3)
    first, second = ({"authorization": f"Bearer {secret}"} for secret in ("first-secret", "second-secret"))
    assert [client.get("/v1/jobs", headers=first).status_code for _ in range(3)] == [200] * 3
    refused = client.get("/v1/jobs", headers=first)
    assert_problem(refused, 429, "too-many-requests")
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert client.get("/v1/jobs", headers=second).status_code == 200
    guesses = [client.get("/v1/jobs", headers={"authorization": f"Bearer {n}"}).status_code for n in range(5)]
    assert guesses == [401, 401, 401, 429, 429]
    assert {client.get("/healthz").status_code for _ in range(9)} == {200}


def test_this_machine_alone_is_not_limited(client: TestClient) -> None:
    assert {client.get("/v1/openapi.json").status_code for _ in range(40)} == {200}


def test_a_wrong_bearer_token_is_not_made_up_for_by_a_session(make_client: Callable[..., TestClient]) -> None:
    client = make_client(api_tokens=(TOKEN,))
    client.post("/login", data={"token": TOKEN})

    assert client.get("/v1/jobs").status_code == 200
    assert client.get("/v1/jobs", headers={"authorization": "Bearer wrong"}).status_code == 401


def test_readiness_tells_strangers_no_reasons(stage: Path) -> None:
    engine = make_engine("postgresql+psycopg://nobody@127.0.0.1:9/nothing")
    settings = settings_for(stage / "data", api_tokens=(TOKEN,))
    services = Services(settings, engine, "redis://127.0.0.1:9/0", is_reachable=False)
    client = TestClient(create_app(services), base_url="http://localhost")

    assert client.get("/readyz").json() == {"database": "not ready", "broker": "not ready", "index": "ok"}
    assert "127.0.0.1" in client.get("/readyz", headers={"authorization": f"Bearer {TOKEN}"}).json()["database"]
    engine.dispose()


def test_the_page_asks_for_a_token_and_goes_back_to_where_one_was(make_client: Callable[..., TestClient]) -> None:
    client = make_client(api_tokens=(TOKEN,))
    browser = {"accept": "text/html"}

    asked = client.get("/jobs?cursor=5", headers=browser)
    assert asked.status_code == 303
    assert asked.headers["location"] == "/login?next=%2Fjobs%3Fcursor%3D5"
    assert client.post("/login", data={"token": "wrong", "next": "/jobs"}).status_code == 401

    entered = client.post("/login", data={"token": TOKEN, "next": "/jobs?cursor=5"})
    assert entered.headers["location"] == "/jobs?cursor=5"
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert client.get("/jobs", headers=browser).status_code == 200

    client.post("/logout")
    assert client.get("/jobs", headers=browser).status_code == 303


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/\\evil.example", "//[", "http://[", "javascript:x", "jobs"]
)
def test_signing_in_never_leads_to_another_site(make_client: Callable[..., TestClient], target: str) -> None:
    client = make_client(api_tokens=(TOKEN,))

    entered = client.post("/login", data={"token": TOKEN, "next": target})

    assert entered.headers["location"] == "/"


def test_another_site_cannot_change_anything_through_a_browser(
    make_client: Callable[..., TestClient], archive: Path
) -> None:
    for client in (make_client(), make_client(api_tokens=(TOKEN,))):
        client.post("/login", data={"token": TOKEN})
        for headers in (
            {"sec-fetch-site": "cross-site"},
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": "http://["},
        ):
            refused = client.post("/jobs", data={"source": str(archive)}, headers=headers)
            assert_problem(refused, 403, "forbidden")
        ours = {"origin": "http://localhost", "sec-fetch-site": "same-origin"}
        accepted = client.post("/jobs", data={"source": str(archive)}, headers=ours)
        assert accepted.status_code == 303


def test_without_tokens_other_names_of_this_machine_are_refused(client: TestClient) -> None:
    for host in ("evil.example", "evil.example:8000", "0.0.0.0:8000", "localhost.evil.example"):
        assert_problem(client.get("/v1/jobs", headers={"host": host}), 421, "wrong-host")
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        assert client.get("/v1/jobs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("header", ["x-forwarded-for", "Forwarded"])
def test_without_tokens_what_a_proxy_sends_is_refused(client: TestClient, header: str) -> None:
    refused = client.get("/v1/jobs", headers={header: "203.0.113.7"})
    assert_problem(refused, 421, "wrong-host")
    assert "tokens" in refused.json()["detail"]


def test_the_address_that_a_client_says_it_has_does_not_count(make_client: Callable[..., TestClient]) -> None:
    services = services_of(make_client(api_tokens=(TOKEN,), rate_limit=5))
    with serving(services) as url:
        answers = [
            urllib3.request(
                "GET", f"{url}/v1/jobs", headers={"X-Forwarded-For": f"203.0.113.{number}"}, retries=False
            ).status
            for number in range(20)
        ]
    assert set(answers) == {401, 429}
    assert answers[-1] == 429


def test_a_change_is_not_redirected_from_an_address_with_a_slash_at_its_end(client: TestClient) -> None:
    """Clients shorten ``/v1/images/1/keywords/..`` to ``/v1/images/1/``."""
    image_id = client.get("/v1/search").json()["items"][0]["image_id"]
    refused = client.delete(f"/v1/images/{image_id}/")
    assert_problem(refused, 404, "not-found")
    assert client.get(f"/v1/images/{image_id}").status_code == 200
    assert client.get("/jobs/").status_code == 307  # what changes nothing is redirected


def test_every_answer_has_the_headers_that_protect_people(client: TestClient) -> None:
    for path in ("/", "/jobs", "/v1/jobs", "/v1/nothing", "/static/app.css", "/healthz"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "server" not in headers


def test_other_machines_are_served_only_with_tokens(client: TestClient, make_client: Callable[..., TestClient]) -> None:
    with pytest.raises(UsageError, match="RAMQ_API_TOKENS"):
        listen(services_of(client), "0.0.0.0", 0)

    with listen(services_of(make_client(api_tokens=(TOKEN,))), "0.0.0.0", 0) as everywhere:
        assert everywhere.getsockname()[0] == "0.0.0.0"
    with listen(services_of(client), "127.0.0.1", 0) as here:
        assert url_of(here).startswith("http://127.0.0.1:")
        with pytest.raises(UsageError, match=r"port \d+ is in use"):
            listen(services_of(client), "127.0.0.1", here.getsockname()[1])


def test_an_upload_over_the_limit_is_refused_whether_or_not_it_says_its_size(client: TestClient) -> None:
    chunk = b"\0" * 1024 * 1024

    def chunks() -> Iterator[bytes]:
        for _ in range(MAX_UPLOAD_BYTES // len(chunk) + 1):
            yield chunk

    declared = {"content-length": str(MAX_UPLOAD_BYTES + 1), "content-type": "image/png"}
    assert_problem(client.post("/v1/search/image", headers=declared), 413, "too-large")
    undeclared = client.post("/v1/search/image", content=chunks(), headers={"content-type": "image/png"})
    assert_problem(undeclared, 413, "too-large")
    assert_problem(client.post("/v1/jobs", content=b" " * (MAX_BODY_BYTES + 1)), 413, "too-large")


def test_a_database_that_is_away_is_a_problem_to_try_again_later(stage: Path) -> None:
    engine = make_engine("postgresql+psycopg://nobody@127.0.0.1:9/nothing")
    services = Services(settings_for(stage / "data"), engine, "redis://127.0.0.1:9/0", is_reachable=False)
    client = TestClient(create_app(services), base_url="http://localhost", raise_server_exceptions=False)

    response = client.get("/v1/jobs")

    assert_problem(response, 503, "service-unavailable")
    assert int(response.headers["retry-after"]) > 0
    page = client.get("/", headers={"accept": "text/html"})
    assert page.status_code == 503
    assert "did not answer" in page.text
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503
    assert 'ramq_service_up{service="database"} 0.0' in client.get("/metrics").text
    engine.dispose()


def test_a_defect_of_ours_says_nothing_of_its_inside(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr(services_of(client), "archives", fail)

    response = client.get("/v1/archives")

    assert_problem(response, 500, "internal")
    assert "swordfish" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"

"""Every role against every route, through HTTP; answers that go on when a token is revoked; a database that is away."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from starlette.testclient import TestClient

from ramq.client import Client, ProblemError
from ramq.web import callers
from ramq.web.app import create_app
from ramq.web.roles import ANYBODY, ROLE_OF, Route
from ramq.wiring import Services
from storage.accounts import ROLES
from storage.database import make_engine
from storage.ledger.views import JobView  # noqa: TC001  (pytest reads the annotations)
from tests.services.recognised import settings_for
from tests.services.web import assert_problem, services_of, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.services

NONE_SUCH = "999999"
"""Of an image, a job and everything else that has a number: nothing is changed by what is let in."""


def filled(route: Route) -> str:
    """A path of a route that names nothing that exists."""
    path = re.sub(r"{\w*(_id|number)(:\w+)?}", NONE_SUCH, route.path)
    path = path.replace("{stage}", "look").replace("{action}", "pause")
    return re.sub(r"{\w+(:\w+)?}", "none-such", path)


def secrets_of(services: Services) -> dict[str, str]:
    """A token of a user of each role."""
    made = {}
    for role in reversed(ROLES):
        services.accounts.add(f"user-{role}", role)
        made[role] = services.accounts.create_token(f"user-{role}").secret
    return made


@pytest.fixture
def client(make_client: Callable[..., TestClient]) -> TestClient:
    return make_client(rate_limit=0)


def test_each_route_lets_in_the_roles_that_include_its_own_and_no_other(client: TestClient) -> None:
    secrets = secrets_of(services_of(client))
    routes: list[Route] = client.app.state.roles.routes  # type: ignore[attr-defined]  # FastAPI's own
    wrong = []
    for route in routes:
        if route.name in ANYBODY:
            continue
        needed, path = ROLE_OF[route.name], filled(route)
        if client.request(route.method, path).status_code != 401:
            wrong.append(f"{route.name} lets in nobody")
        for role, secret in secrets.items():
            answer = client.request(route.method, path, headers={"authorization": f"Bearer {secret}"})
            is_refused = answer.status_code == 403 and "requires the role" in answer.text
            if is_refused != (ROLES.index(role) < ROLES.index(needed)) or answer.status_code in {401, 500}:
                wrong.append(f"{route.name} for {role}: {answer.status_code} {answer.text[:80]}")
    assert wrong == []


def test_a_session_of_the_page_has_the_role_too_and_other_sites_cannot_use_it(client: TestClient) -> None:
    secrets = secrets_of(services_of(client))
    for role, secret in secrets.items():
        client.post("/login", data={"token": secret})
        added = client.post("/users", data={"name": f"by-{role}", "role": "look"})
        assert added.status_code == (303 if role == "admin" else 403)
        foreign = client.post("/users", data={"name": "evil"}, headers={"sec-fetch-site": "cross-site"})
        assert_problem(foreign, 403, "forbidden")
    assert "by-admin" in {user.name for user in services_of(client).accounts.users()}


def test_the_client_manages_users(client: TestClient) -> None:
    secret = secrets_of(services_of(client))["admin"]
    with serving(services_of(client)) as url, Client(url, token=secret) as ramq:
        assert ramq.add_user("ann", "run").tokens == 0
        made = ramq.create_token("ann", role="correct", expires="1d", note="a program")
        assert [token.id for token in ramq.tokens("ann")] == [made.token.id]
        with Client(url, token=made.secret) as of_ann, pytest.raises(ProblemError, match="requires the role run"):
            of_ann.enqueue("s3://photos/")
        assert ramq.change_user("ann", role="look", to="anna").name == "anna"
        assert ramq.revoke_token(made.token.id).state == "revoked"
        assert not ramq.remove_user("anna").is_enabled
        assert "anna" not in {user.name for user in ramq.users()}
        assert next(iter(ramq.user_history())).what == "removed"


@pytest.fixture
def job(client: TestClient, archive: Path) -> JobView:
    """A job that no worker does."""
    return services_of(client).jobs.create(str(archive))


@pytest.fixture
def events(client: TestClient, job: JobView, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The answer of the event stream of a job to a user with the role look, and the user's token."""
    monkeypatch.setattr(callers, "FRESH_SECONDS", 0.0)
    services = services_of(client)
    secret = secrets_of(services)["look"]
    with serving(services) as url, urllib3.PoolManager() as pool:
        answer = pool.request(
            "GET",
            f"{url}/v1/jobs/{job.id}/events",
            headers={"authorization": f"Bearer {secret}"},
            preload_content=False,
        )
        yield answer
        answer.close()


def test_an_answer_that_goes_on_ends_when_its_token_is_revoked(client: TestClient, job: JobView, events: Any) -> None:
    services = services_of(client)
    received = bytearray()
    has_more = threading.Event()

    def read() -> None:
        for chunk in events.stream(1):
            received.extend(chunk)
            if received.count(b"event: job") == 2:
                has_more.set()

    reader = threading.Thread(target=read)
    reader.start()
    services.jobs.pause(job.id)
    assert has_more.wait(30)
    [token] = services.accounts.tokens("user-look")
    services.accounts.revoke(token.id)
    services.jobs.resume(job.id)
    reader.join(30)
    assert not reader.is_alive()
    assert received.count(b"event: job") == 2  # what came after is not told


def test_while_the_database_is_away_tokens_of_the_settings_are_known_and_others_are_not(
    stage: Path, client: TestClient
) -> None:
    secret = secrets_of(services_of(client))["admin"]
    engine = make_engine("postgresql+psycopg://nobody@127.0.0.1:9/nothing")
    settings = settings_for(stage / "data", api_tokens=("eye:read:r-secret",))
    away = TestClient(
        create_app(Services(settings, engine, "redis://127.0.0.1:9/0", is_reachable=False)),
        base_url="http://localhost",
        follow_redirects=False,
    )
    refused = away.get("/v1/training", headers={"authorization": f"Bearer {secret}"})
    assert_problem(refused, 503, "service-unavailable")
    assert int(refused.headers["retry-after"]) > 0
    browser = {"accept": "text/html", "cookie": "ramq_session=whatever"}
    assert away.get("/training", headers=browser).status_code == 503
    assert away.get("/training").status_code == 401
    assert away.get("/v1/training", headers={"authorization": "Bearer r-secret"}).status_code == 200
    assert away.get("/healthz").status_code == 200
    assert away.get("/readyz", headers=browser).json()["database"] == "not ready"
    told = away.get("/metrics", headers={"authorization": f"Bearer {secret}"}).text
    assert 'ramq_service_up{service="database"} 0.0' in told
    assert {line.split("{")[0] for line in told.splitlines() if not line.startswith("#")} == {"ramq_service_up"}
    assert away.get("/metrics").status_code == 401
    engine.dispose()


def test_a_server_that_others_can_reach_needs_tokens_whatever_the_database_says(
    client: TestClient, stage: Path
) -> None:
    services = services_of(client)
    open_to_others = Services(settings_for(stage / "data"), services.engine, None, is_reachable=True)
    assert TestClient(create_app(open_to_others), base_url="http://localhost").get("/v1/jobs").status_code == 401

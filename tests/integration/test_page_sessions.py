"""Sessions of the page: what signing out ends, and when they end by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from tests.integration.test_accounts import later
from tests.services.web import assert_problem, bearer, services_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.testclient import TestClient

    from tests.services.clock import Clock

pytestmark = pytest.mark.services


def test_signing_out_ends_this_session_on_every_server_and_nothing_else(
    make: Callable[..., TestClient], clock: Clock
) -> None:
    first, second = make(), make()
    accounts = services_of(first).accounts
    accounts.add("boss", "admin")
    secret = accounts.create_token("boss").secret
    cookies = []
    for client in (first, second):
        client.post("/login", data={"token": secret})
        cookies.append({"cookie": f"ramq_session={client.cookies['ramq_session']}"})
        client.cookies.clear()
    later(clock)
    assert [client.get("/jobs", headers=one).status_code for client in (first, second) for one in cookies] == [200] * 4
    assert first.post("/logout", headers=cookies[0]).headers["location"] == "/login"
    assert_problem(first.get("/v1/jobs", headers=cookies[0]), 401, "unauthorized")
    other = cookies[0]["cookie"].rpartition(".")[0]
    for made_up in (other, f"{other}.", f"{other}.{'0' * 32}"):
        assert first.get("/v1/jobs", headers={"cookie": made_up}).status_code == 401
    later(clock)
    assert second.get("/v1/jobs", headers=cookies[0]).status_code == 401
    for client in (first, second):
        assert client.get("/v1/jobs", headers=cookies[1]).status_code == 200
        assert client.get("/v1/jobs", headers=bearer(secret)).status_code == 200
    assert [(event.what, event.user) for event in accounts.every_event()][:3] == [
        ("signed_out", "boss"),
        ("signed_in", "boss"),
        ("signed_in", "boss"),
    ]


def test_sessions_with_tokens_of_the_settings_end_too(make: Callable[..., TestClient], clock: Clock) -> None:
    first, second = make(api_tokens=("eye:read:r-secret",)), make(api_tokens=("eye:read:r-secret",))
    first.post("/login", data={"token": "r-secret"})
    cookie = {"cookie": f"ramq_session={first.cookies['ramq_session']}"}
    first.cookies.clear()
    later(clock)
    assert [client.get("/v1/jobs", headers=cookie).status_code for client in (first, second)] == [200, 200]
    first.post("/logout", headers=cookie)
    later(clock)
    assert [client.get("/v1/jobs", headers=cookie).status_code for client in (first, second)] == [401, 401]
    assert second.get("/v1/jobs", headers=bearer("r-secret")).status_code == 200


def test_a_session_ends_after_thirty_days_whatever_the_browser_keeps(
    make: Callable[..., TestClient], clock: Clock
) -> None:
    client = make(api_tokens=("eye:read:r-secret",))
    client.post("/login", data={"token": "r-secret"})
    assert client.get("/v1/jobs").status_code == 200
    clock.now += 30 * 86_400
    cookie = {"cookie": f"ramq_session={client.cookies['ramq_session']}"}
    with unit_of_work(services_of(client).engine) as session:
        session.execute(text("UPDATE page_session SET started_at = started_at - make_interval(days => 30)"))
    assert client.get("/v1/jobs", headers=cookie).status_code == 401
    client.post("/login", data={"token": "r-secret"})
    with unit_of_work(services_of(client).engine) as session:
        assert session.scalar(text("SELECT count(*) FROM page_session")) == 1


def signed_in(client: TestClient, secret: str) -> dict[str, str]:
    client.post("/login", data={"token": secret})
    cookie = {"cookie": f"ramq_session={client.cookies['ramq_session']}"}
    client.cookies.clear()
    return cookie


def test_sessions_of_a_user_who_was_disabled_do_not_come_back(make: Callable[..., TestClient], clock: Clock) -> None:
    client = make()
    accounts = services_of(client).accounts
    accounts.add("boss", "admin")
    accounts.add("ann", "look")
    boss = signed_in(client, accounts.create_token("boss").secret)
    secret = accounts.create_token("ann").secret
    session = signed_in(client, secret)
    accounts.change("ann", to="anna")
    later(clock)
    assert client.get("/v1/jobs", headers=session).status_code == 200
    accounts.change("anna", is_enabled=False)
    accounts.change("anna", is_enabled=True)
    later(clock)
    assert client.get("/v1/jobs", headers=session).status_code == 401
    assert client.get("/v1/jobs", headers=bearer(secret)).status_code == 200
    assert client.get("/v1/jobs", headers=boss).status_code == 200
    session = signed_in(client, secret)
    accounts.remove("anna")
    accounts.add("anna", "look")
    accounts.create_token("anna")
    later(clock)
    assert client.get("/v1/jobs", headers=session).status_code == 401


def test_a_session_of_an_older_version_ends_when_anybody_is_disabled(
    make: Callable[..., TestClient], clock: Clock
) -> None:
    client = make()
    accounts = services_of(client).accounts
    for name in ("boss", "ann"):
        accounts.add(name, "admin")
    session = signed_in(client, accounts.create_token("boss").secret)
    with unit_of_work(services_of(client).engine) as unnamed:
        unnamed.execute(text("UPDATE page_session SET name = NULL"))
    accounts.change("ann", is_enabled=False)
    later(clock)
    assert client.get("/v1/jobs", headers=session).status_code == 401


def test_a_user_has_a_hundred_sessions_and_the_oldest_ends(make: Callable[..., TestClient], clock: Clock) -> None:
    client = make()
    accounts = services_of(client).accounts
    accounts.add("boss", "admin")
    secret = accounts.create_token("boss").secret
    first, second = signed_in(client, secret), signed_in(client, secret)
    for number in range(98):
        accounts.start_session(number.to_bytes(32), "boss")
    later(clock)
    assert client.get("/v1/jobs", headers=first).status_code == 200
    accounts.start_session(b"one more", "boss")
    accounts.start_session(b"somebody", "else")
    later(clock)
    assert client.get("/v1/jobs", headers=first).status_code == 401
    assert client.get("/v1/jobs", headers=second).status_code == 200

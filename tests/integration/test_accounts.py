"""Users and their tokens through HTTP: made, changed and revoked while servers run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from ramq.web import callers
from ramq.web.server import listen
from storage.database import unit_of_work
from storage.errors import ConflictError, NotFoundError, UsageError
from tests.services.recognised import CAT
from tests.services.web import assert_problem, bearer, services_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.testclient import TestClient

    from ramq.services.accounts import AccountClient
    from tests.services.clock import Clock

pytestmark = pytest.mark.services

HTML = {"accept": "text/html"}


@pytest.fixture
def client(make: Callable[..., TestClient]) -> TestClient:
    return make()


@pytest.fixture
def accounts(client: TestClient) -> AccountClient:
    return services_of(client).accounts


def later(clock: Clock) -> None:
    """Let as much time pass as a server may use what it knows."""
    clock.now += callers.FRESH_SECONDS


def test_until_the_first_token_this_machine_needs_none_and_then_everybody_does(
    client: TestClient, accounts: AccountClient, clock: Clock
) -> None:
    assert client.get("/v1/jobs").status_code == 200
    assert client.post("/v1/users", json={"name": "ann", "role": "admin"}).status_code == 201
    later(clock)
    assert client.get("/v1/jobs").status_code == 200
    made = client.post("/v1/users/ann/tokens", json={"note": "laptop"})
    assert made.status_code == 201, made.text
    assert made.headers["cache-control"] == "no-store"
    secret = made.json()["secret"]
    assert re.fullmatch(r"ramq_[A-Za-z0-9_-]{43}", secret)
    assert made.json()["token"]["note"] == "laptop"
    later(clock)
    refused = client.get("/v1/jobs")
    assert_problem(refused, 401, "unauthorized")
    assert client.get("/jobs", headers=HTML).headers["location"] == "/login?next=%2Fjobs"
    assert client.get("/healthz").status_code == 200
    assert client.get("/v1/jobs", headers=bearer(secret)).status_code == 200
    assert [event.said_by for event in accounts.every_event()] == ["local", "local"]


def test_the_first_token_must_be_for_everything_or_nobody_could_manage_users(
    client: TestClient, accounts: AccountClient
) -> None:
    accounts.add("ann", "look")
    with pytest.raises(ConflictError, match="must be that of an admin"):
        accounts.create_token("ann")
    accounts.add("boss", "admin")
    with pytest.raises(ConflictError, match="must be that of an admin"):
        accounts.create_token("boss", role="run")
    assert accounts.create_token("boss").is_first
    assert not accounts.create_token("ann").is_first
    assert client.get("/v1/jobs").status_code == 401


def test_tokens_of_the_settings_go_on_beside_those_of_users(make: Callable[..., TestClient]) -> None:
    client = make(api_tokens=("eye:read:r-secret", "head:admin:a-secret"))
    accounts = services_of(client).accounts
    accounts.add("ann", "correct")
    secret = accounts.create_token("ann").secret
    for each, status in ((secret, 200), ("r-secret", 200), ("a-secret", 200), ("x", 401), (secret[:-1], 401)):
        assert client.get("/v1/jobs", headers=bearer(each)).status_code == status
    assert client.get("/v1/users", headers=bearer("a-secret")).status_code == 200
    refused = client.get("/v1/users", headers=bearer(secret))
    assert assert_problem(refused, 403, "forbidden")["detail"] == (
        "This requires the role admin; ann has correct with this token."
    )
    # The setting has a token for everything, so no change can lock everybody out.
    accounts.add("boss", "admin")
    accounts.create_token("boss")
    accounts.remove("boss")


def test_a_revoked_token_and_its_session_end_on_every_server_within_the_bound(
    make: Callable[..., TestClient], clock: Clock
) -> None:
    first, second = make(), make()
    accounts = services_of(first).accounts
    accounts.add("boss", "admin")
    boss = accounts.create_token("boss").secret
    accounts.add("ann", "look")
    made = accounts.create_token("ann")
    for client in (first, second):
        entered = client.post("/login", data={"token": f" {made.secret} "})
        assert entered.status_code == 303
        cookie = entered.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert made.secret.lower() not in cookie
        assert client.get("/v1/jobs").status_code == 200
    assert first.delete(f"/v1/tokens/{made.token.id}", headers=bearer(boss)).json()["state"] == "revoked"
    clock.now += callers.FRESH_SECONDS - 0.01
    assert second.get("/v1/jobs").status_code == 200  # the bound is used: no statement for each request
    clock.now += 0.01
    for client in (first, second):
        assert client.get("/jobs", headers=HTML).status_code == 303
        assert client.get("/v1/jobs").status_code == 401
        assert client.get("/v1/jobs", headers=bearer(made.secret)).status_code == 401
        assert client.post("/login", data={"token": made.secret}).status_code == 401
    assert second.get("/v1/jobs", headers=bearer(boss)).status_code == 200


def test_disabling_lowering_and_removing_a_user_take_effect_as_well(
    client: TestClient, accounts: AccountClient, clock: Clock
) -> None:
    accounts.add("boss", "admin")
    boss = bearer(accounts.create_token("boss").secret)
    accounts.add("ann", "run")
    ann = bearer(accounts.create_token("ann").secret)
    low = bearer(accounts.create_token("ann", role="correct").secret)

    def status(headers: dict[str, str]) -> tuple[int, int]:
        later(clock)
        tag = client.put("/v1/images/999999/tags/cup", json={"present": True}, headers=headers)
        return client.get("/v1/jobs", headers=headers).status_code, tag.status_code

    def change(**changes: Any) -> dict[str, Any]:
        answer = client.patch("/v1/users/ann", json=changes, headers=boss)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    assert status(ann) == status(low) == (200, 404)
    change(role="look")
    assert status(ann) == status(low) == (200, 403)
    change(role="admin")
    assert status(low) == (200, 404)
    assert client.post("/v1/jobs", json={"source": "/x"}, headers=low).status_code == 403
    assert change(is_enabled=False)["tokens"] == 0
    assert status(ann) == status(low) == (401, 401)
    assert change(is_enabled=True)["tokens"] == 2
    assert status(ann) == (200, 404)
    assert client.delete("/v1/users/ann", headers=boss).json()["is_enabled"] is False
    assert status(ann) == (401, 401)
    assert [user["name"] for user in client.get("/v1/users", headers=boss).json()["items"]] == ["boss"]


def test_a_token_ends_when_its_time_is_over(client: TestClient, accounts: AccountClient, clock: Clock) -> None:
    accounts.add("boss", "admin")
    accounts.create_token("boss")
    accounts.add("ann", "look")
    made = accounts.create_token("ann", expires="1h")
    assert made.token.expires_at is not None
    assert client.get("/v1/jobs", headers=bearer(made.secret)).status_code == 200
    clock.now += 3_599
    assert client.get("/v1/jobs", headers=bearer(made.secret)).status_code == 200
    clock.now += 1
    assert client.get("/v1/jobs", headers=bearer(made.secret)).status_code == 401
    with unit_of_work(services_of(client).engine) as session:
        session.execute(text("UPDATE access_token SET expires_at = now() WHERE note = '' AND id > 1"))
    assert [token.state for token in accounts.tokens("ann")] == ["expired"]
    for wrong in ("90", "0d", "d", "1m", "-1d", "99999y", "1 d"):
        with pytest.raises(UsageError, match="90d"):
            accounts.create_token("ann", expires=wrong)


def test_nobody_can_take_away_the_last_token_for_everything(accounts: AccountClient) -> None:
    accounts.add("boss", "admin")
    token = accounts.create_token("boss").token
    accounts.add("idle", "admin")  # has no token
    accounts.add("ann", "admin")
    accounts.create_token("ann", role="run")
    for attempt in (
        lambda: accounts.remove("boss"),
        lambda: accounts.remove("boss", opens=True),
        lambda: accounts.change("boss", role="run"),
        lambda: accounts.change("boss", is_enabled=False),
        lambda: accounts.revoke(token.id),
    ):
        with pytest.raises(ConflictError, match="make another one first"):
            attempt()
    assert {user.name: user.tokens for user in accounts.users()} == {"ann": 1, "boss": 1, "idle": 0}
    accounts.create_token("idle")
    accounts.revoke(token.id)
    accounts.remove("boss")


def test_the_last_user_can_be_removed_if_asked_and_then_nobody_needs_a_token(
    client: TestClient, accounts: AccountClient, clock: Clock
) -> None:
    accounts.add("boss", "admin")
    accounts.create_token("boss")
    later(clock)
    assert client.get("/v1/jobs").status_code == 401
    accounts.remove("boss", opens=True)
    later(clock)
    assert client.get("/v1/jobs").status_code == 200
    accounts.add("boss", "admin")  # the same person comes back, without the old tokens
    assert accounts.tokens("boss") == []
    later(clock)
    assert client.get("/v1/jobs").status_code == 200


def test_names_stay_with_who_had_them_and_history_stays_readable(
    client: TestClient, accounts: AccountClient, clock: Clock
) -> None:
    client.put("/v1/policies/plate", json={"kind": "deny"})
    assert "<td>you</td>" in client.get("/archives/policies", headers=HTML).text
    accounts.add("boss", "admin")
    boss = bearer(accounts.create_token("boss").secret)
    assert "<td>the local user</td>" in client.get("/archives/policies", headers={**boss, **HTML}).text
    accounts.add("ann", "correct")
    ann = bearer(accounts.create_token("ann").secret)
    [cat] = [hit["image_id"] for hit in client.get("/v1/search", params={"tag": CAT}, headers=boss).json()["items"]]
    assert client.put(f"/v1/images/{cat}/tags/espresso", json={"present": True}, headers=ann).status_code == 200
    assert client.patch("/v1/users/ann", json={"name": "anna"}, headers=boss).json()["former_names"] == ["ann"]
    later(clock)
    assert client.put(f"/v1/images/{cat}/tags/cup", json={"present": True}, headers=ann).status_code == 200
    said = client.get(f"/v1/images/{cat}", headers=boss).json()["corrections"]
    assert sorted(one["said_by"] for one in said) == ["ann", "anna"]
    page = client.get(f"/images/{cat}", headers={**boss, **HTML}).text
    assert "added by anna (ann then) on" in page
    assert "added by anna on" in page
    for taken in ("ann", "ANN", "anna"):
        assert_problem(client.post("/v1/users", json={"name": taken}, headers=boss), 409, "conflict")
    accounts.change("anna", to="ann")
    accounts.remove("ann")
    with pytest.raises(ConflictError, match="was removed"):
        accounts.add("anna", "look")
    later(clock)
    page = client.get(f"/images/{cat}", headers={**boss, **HTML}).text
    assert "added by ann on" in page
    assert "added by ann (anna then) on" in page
    for wrong in ("", "a b", "a:b", "x" * 65, "local", "<b>"):
        with pytest.raises(UsageError, match="1 to 64 letters"):
            accounts.add(wrong, "look")
    with pytest.raises(UsageError, match="look, correct, run, admin"):
        accounts.add("bob", "write")
    with pytest.raises(NotFoundError, match="no user 'bob'"):
        accounts.create_token("bob")


def test_the_history_says_who_did_what_and_holds_no_secret(client: TestClient, accounts: AccountClient) -> None:
    accounts.add("boss", "admin", by="root")
    made = accounts.create_token("boss", by="root")
    boss = bearer(made.secret)
    client.post("/v1/users", json={"name": "ann", "role": "look"}, headers=boss)
    token = client.post("/v1/users/ann/tokens", json={"expires": "90d"}, headers=boss).json()
    client.patch("/v1/users/ann", json={"role": "run", "is_enabled": False}, headers=boss)
    client.patch("/v1/users/ann", json={"role": "run"}, headers=boss)  # changes nothing
    client.delete(f"/v1/tokens/{token['token']['id']}", headers=boss)
    client.delete("/v1/users/ann", headers=boss)
    first = client.get("/v1/users/history", params={"limit": 5}, headers=boss).json()
    rest = client.get("/v1/users/history", params={"cursor": first["next_cursor"]}, headers=boss).json()
    assert rest["next_cursor"] is None
    told = [
        (one["said_by"], one["what"], one["user"], one["detail"]) for one in [*first["items"], *rest["items"]][::-1]
    ]
    assert told == [
        ("root", "added", "boss", "admin"),
        ("root", "token_created", "boss", "admin, does not expire"),
        ("boss", "added", "ann", "look"),
        ("boss", "token_created", "ann", "look, expires in 90d"),
        ("boss", "role", "ann", "look → run"),
        ("boss", "disabled", "ann", ""),
        ("boss", "token_revoked", "ann", ""),
        ("boss", "removed", "ann", ""),
    ]
    with unit_of_work(services_of(client).engine) as session:
        for table in ("account", "access_token", "account_event"):
            rows = session.scalars(text(f"SELECT row_to_json(each)::text FROM {table} AS each")).all()
            assert rows
            for secret in (made.secret, token["secret"]):
                assert not any(secret in row or secret.encode().hex() in row for row in rows)
    assert_problem(client.get("/v1/users/history", params={"cursor": "x"}, headers=boss), 422, "usage")


def test_what_the_database_holds_lets_nobody_in(client: TestClient, accounts: AccountClient) -> None:
    accounts.add("boss", "admin")
    accounts.create_token("boss")
    with unit_of_work(services_of(client).engine) as session:
        [row] = session.execute(text("SELECT hash, session_hash FROM access_token"))
    for stolen in (row.hash.hex(), row.session_hash.hex(), f"sha256:{row.hash.hex()}"):
        assert client.get("/v1/jobs", headers=bearer(stolen)).status_code == 401
        assert client.get("/v1/jobs", headers={"cookie": f"ramq_session={stolen}"}).status_code == 401


def test_the_last_use_is_kept_to_the_hour_and_written_once(
    client: TestClient, accounts: AccountClient, clock: Clock
) -> None:
    accounts.add("boss", "admin")
    boss = bearer(accounts.create_token("boss").secret)
    assert accounts.users()[0].used_at is None
    for _ in range(3):
        client.get("/v1/jobs", headers=boss)
        later(clock)
    used_at = accounts.tokens()[0].used_at
    assert used_at is not None
    assert (used_at.minute, used_at.second, used_at.microsecond) == (0, 0, 0)
    with unit_of_work(services_of(client).engine) as session:
        before = session.scalar(text("SELECT xmin::text FROM access_token"))
    for _ in range(3):
        client.get("/v1/jobs", headers=boss)
        later(clock)
    with unit_of_work(services_of(client).engine) as session:
        assert session.scalar(text("SELECT xmin::text FROM access_token")) == before


def test_guessing_is_slowed_down_whatever_is_guessed(make: Callable[..., TestClient]) -> None:
    client = make(rate_limit=3)
    accounts = services_of(client).accounts
    accounts.add("boss", "admin")
    boss = bearer(accounts.create_token("boss").secret)
    guesses = [client.get("/v1/jobs", headers=bearer(f"ramq_{n:043}")).status_code for n in range(2)]
    guesses += [client.post("/login", data={"token": f"ramq_{n:043}"}).status_code for n in range(2)]
    guesses += [client.get("/v1/jobs", headers={"cookie": f"ramq_session={'0' * 64}"}).status_code]
    assert guesses == [401, 401, 401, 429, 429]
    assert client.get("/v1/jobs", headers=boss).status_code == 200


def test_other_machines_are_served_once_a_user_has_a_token(client: TestClient, accounts: AccountClient) -> None:
    with pytest.raises(UsageError, match="ramq token create"):
        listen(services_of(client), "0.0.0.0", 0)
    accounts.add("boss", "admin")
    accounts.create_token("boss")
    with listen(services_of(client), "0.0.0.0", 0) as everywhere:
        assert everywhere.getsockname()[0] == "0.0.0.0"


def test_a_token_of_a_disabled_user_and_a_wrong_note_are_refused(accounts: AccountClient) -> None:
    accounts.add("boss", "admin")
    accounts.create_token("boss")
    accounts.add("ann", "look")
    with pytest.raises(UsageError, match="cannot have run"):
        accounts.create_token("ann", role="run")
    for note in ("x" * 201, "two\nlines", "\u202e"):
        with pytest.raises(UsageError, match="note"):
            accounts.create_token("ann", note=note)
    accounts.change("ann", is_enabled=False)
    with pytest.raises(ConflictError, match="ramq user enable ann"):
        accounts.create_token("ann")
    with pytest.raises(NotFoundError, match="no token 99"):
        accounts.revoke(99)

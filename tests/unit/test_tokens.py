"""Who may do what, and how often."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from ramq.web.rate_limit import MOST_CALLERS, RateLimit
from ramq.web.tokens import COOKIE, SCOPES, Token, Tokens, make_token, scope_needed
from storage.errors import UsageError

ENTRIES = ("reader:read:r-secret", "ann.b-1:write:w:secret", "boss:admin:a-secret", "an-old-token", "no:scope:x")


def asking(**headers: str) -> HTTPConnection:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "headers": raw, "method": "GET", "path": "/"}
    return HTTPConnection(scope)


@pytest.mark.parametrize(
    ("secret", "token"),
    [
        ("r-secret", Token("reader", "read")),
        ("w:secret", Token("ann.b-1", "write")),
        ("a-secret", Token("boss", "admin")),
        ("an-old-token", Token("token-4", "admin")),
        ("no:scope:x", Token("token-5", "admin")),
        ("reader:read:r-secret", None),
        ("r-secre", None),
        ("", None),
        ("é", None),
    ],
)
def test_an_entry_is_a_token_with_its_scope_or_an_old_one_for_everything(secret: str, token: Token | None) -> None:
    tokens = Tokens(ENTRIES)
    assert tokens.of(asking(authorization=f"Bearer {secret}")) == token
    session = tokens.session_of(secret)
    assert (session is not None) == (token is not None)
    assert tokens.of(asking(cookie=f"{COOKIE}={session or 'x'}")) == token


def test_a_session_tells_nothing_of_its_token_and_is_not_one() -> None:
    tokens = Tokens(ENTRIES)
    session = tokens.session_of("r-secret")
    assert session
    assert "secret" not in session
    assert tokens.of(asking(authorization=f"Bearer {session}")) is None
    assert tokens.of(asking(authorization="Bearer wrong", cookie=f"{COOKIE}={session}")) is None


def hash_of(secret: str) -> str:
    return f"sha256:{hashlib.sha256(secret.encode()).hexdigest()}"


@pytest.mark.parametrize(
    ("entry", "token"),
    [
        (f"ann:write:{hash_of('w-secret')}", Token("ann", "write")),
        (hash_of("w-secret"), Token("token-1", "admin")),
        (f"ann:read:sha256:{hashlib.sha256(b'w-secret').hexdigest().upper()}", Token("ann", "read")),
    ],
)
def test_the_hash_of_a_token_stands_for_it_and_lets_nobody_in_by_itself(entry: str, token: Token) -> None:
    tokens = Tokens(("other:read:o-secret", entry) if token.name == "ann" else (entry,))
    assert tokens.of(asking(authorization="Bearer w-secret")) == token
    session = tokens.session_of("w-secret")
    assert tokens.of(asking(cookie=f"{COOKIE}={session}")) == token
    hashed = entry.rpartition(":")[2]
    for wrong in (entry, f"sha256:{hashed}", hashed, bytes.fromhex(hashed).decode("latin-1"), "w-secre", ""):
        assert tokens.session_of(wrong) is None
        assert tokens.of(asking(authorization=f"Bearer {wrong}".encode().decode("latin-1"))) is None


def test_who_knows_the_hash_of_a_token_cannot_make_its_session() -> None:
    first, second = Tokens((hash_of("a-secret"),)), Tokens((hash_of("a-secret"),))
    session = first.session_of("a-secret")
    assert session
    assert session != second.session_of("a-secret")
    assert second.of(asking(cookie=f"{COOKIE}={session}")) is None


def test_a_new_token_is_told_once_and_its_entry_holds_the_hash_alone() -> None:
    token, entry = make_token("ann.b-1", "write")
    assert entry == f"ann.b-1:write:{hash_of(token)}"
    assert Tokens((entry,)).of(asking(authorization=f"Bearer {token}")) == Token("ann.b-1", "write")
    assert make_token("ann.b-1", "write") != (token, entry)


@pytest.mark.parametrize(
    ("name", "scope"),
    [("", "read"), ("a b", "read"), ("a,b", "read"), ("a:b", "read"), ("ann:admin:x", "read"), ("a", "all")],
)
def test_a_name_or_a_scope_that_no_entry_could_hold_is_refused(name: str, scope: str) -> None:
    with pytest.raises(UsageError, match="read, write, admin"):
        make_token(name, scope)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v1/jobs", "read"),
        ("HEAD", "/", "read"),
        ("POST", "/v1/search/image", "read"),
        ("POST", "/search/image", "read"),
        ("POST", "/logout", "read"),
        ("POST", "/v1/jobs", "write"),
        ("POST", "/v1/jobs/7/retry", "write"),
        ("POST", "/v1/stages/locate/jobs", "write"),
        ("POST", "/v1/stages/locate/estimate", "write"),
        ("POST", "/v1/stages/generations/3/use", "admin"),
        ("POST", "/jobs/7/pause", "write"),
        ("POST", "/jobs", "write"),
        ("DELETE", "/v1/images/3", "admin"),
        ("POST", "/images/3/delete", "admin"),
        ("POST", "/v1/generations/1/use", "admin"),
        ("DELETE", "/v1/jobs/7", "admin"),
        ("POST", "/v1/jobs/../images/3", "admin"),
        ("POST", "/v1/something/new", "admin"),
        ("PUT", "/v1/jobs", "admin"),
        ("PUT", "/v1/images/3/tags/a/b", "write"),
        ("DELETE", "/v1/images/3/tags/dog", "write"),
        ("POST", "/images/3/tags", "write"),
        ("DELETE", "/v1/images/3/tags/", "admin"),
        ("POST", "/images/3/text", "write"),
        ("POST", "/v1/images/3/text/corrections", "write"),
        ("DELETE", "/v1/images/3/text/corrections/7", "write"),
        ("DELETE", "/v1/images/3/text/corrections/", "admin"),
        ("DELETE", "/v1/images/3/text", "admin"),
    ],
)
def test_what_changes_something_needs_more_than_reading(method: str, path: str, scope: str) -> None:
    assert scope_needed(method, path) == scope


def test_a_scope_includes_those_before_it() -> None:
    allowed = {(mine, needed) for mine in SCOPES for needed in SCOPES if Token("x", mine).may(needed)}
    assert allowed == {
        ("read", "read"), ("write", "read"), ("write", "write"),
        ("admin", "read"), ("admin", "write"), ("admin", "admin"),
    }  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_permits_may_be_used_at_once_and_come_back_evenly() -> None:
    clock = Clock()
    limit = RateLimit(60, clock)
    assert [limit.wait_seconds("a") for _ in range(60)] == [0.0] * 60
    assert limit.wait_seconds("a") == pytest.approx(1.0)
    clock.now += 0.4
    assert limit.wait_seconds("a") == pytest.approx(0.6)
    clock.now += 0.6
    assert limit.wait_seconds("a") == 0.0
    assert limit.wait_seconds("a") > 0
    clock.now += 3_600
    assert [limit.wait_seconds("a") for _ in range(61)][:60] == [0.0] * 60


def test_one_caller_does_not_use_up_anothers_permits() -> None:
    limit = RateLimit(1, Clock())
    assert limit.wait_seconds("a") == 0.0
    assert limit.wait_seconds("a") > 0
    assert limit.wait_seconds("b") == 0.0


def test_nought_is_no_limit_and_callers_are_not_remembered_without_end() -> None:
    assert {RateLimit(0, Clock()).wait_seconds("a") for _ in range(100)} == {0.0}
    limit = RateLimit(1, Clock())
    for number in range(MOST_CALLERS + 50):
        limit.wait_seconds(str(number))
    assert len(limit._buckets) == MOST_CALLERS

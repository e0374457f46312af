"""Who may do what, and how often."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from ramq.web.rate_limit import MOST_CALLERS, RateLimit
from ramq.web.tokens import COOKIE, SCOPES, Token, Tokens, make_token
from storage.accounts import ROLES
from storage.errors import UsageError
from tests.services.clock import Clock

ENTRIES = ("reader:read:r-secret", "ann.b-1:write:w:secret", "boss:admin:a-secret", "an-old-token", "no:scope:x")


def asking(**headers: str) -> HTTPConnection:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "headers": raw, "method": "GET", "path": "/"}
    return HTTPConnection(scope)


@pytest.mark.parametrize(
    ("secret", "token"),
    [
        ("r-secret", Token("reader", "look")),
        ("w:secret", Token("ann.b-1", "run")),
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
        (f"ann:write:{hash_of('w-secret')}", Token("ann", "run")),
        (hash_of("w-secret"), Token("token-1", "admin")),
        (f"ann:read:sha256:{hashlib.sha256(b'w-secret').hexdigest().upper()}", Token("ann", "look")),
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
    assert Tokens((entry,)).of(asking(authorization=f"Bearer {token}")) == Token("ann.b-1", "run")
    assert make_token("ann.b-1", "write") != (token, entry)


@pytest.mark.parametrize(
    ("name", "scope"),
    [("", "read"), ("a b", "read"), ("a,b", "read"), ("a:b", "read"), ("ann:admin:x", "read"), ("a", "all")],
)
def test_a_name_or_a_scope_that_no_entry_could_hold_is_refused(name: str, scope: str) -> None:
    with pytest.raises(UsageError, match="read, write, admin"):
        make_token(name, scope)


def test_each_scope_is_a_role_and_each_role_includes_those_before_it() -> None:
    assert SCOPES == {"read": "look", "write": "run", "admin": "admin"}
    allowed = [[Token("x", mine).may(needed) for needed in ROLES] for mine in ROLES]
    assert allowed == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [True, True, True, True],
    ]


def test_a_refusal_is_in_the_words_that_the_token_was_made_with() -> None:
    assert Token("eye", "look").refusal("correct") == "This requires a token of scope write; eye has read."
    assert Token("hand", "run").refusal("admin") == "This requires a token of scope admin; hand has write."
    assert Token("ann", "look", 3).refusal("run") == "This requires the role run; ann has look with this token."


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

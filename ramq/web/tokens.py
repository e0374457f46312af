"""Access tokens and their scopes.

Each entry of ``RAMQ_API_TOKENS`` is ``NAME:SCOPE:TOKEN``, or only a token, which then has every scope. Instead of the
token, an entry may contain ``sha256:`` and the token's SHA-256 in hex. Then nothing that the server stores can be used
to sign in.

Each scope includes the ones before it:

* ``read`` views and searches images.
* ``write`` starts and controls jobs, corrects tags and text, reviews data sets, and
  teaches tags.
* ``admin`` also erases images, sets tag rules and chooses the generation in use.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.errors import UsageError

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.requests import HTTPConnection

COOKIE = "ramq_session"
SCOPES = ("read", "write", "admin")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
UPLOAD_PATHS = frozenset({"/v1/search/image", "/search/image"})

_NAME = re.compile(r"[\w.-]+")
_ENTRY = re.compile(rf"(?P<name>{_NAME.pattern}):(?P<scope>read|write|admin):(?P<secret>.+)", re.DOTALL)
_HASH = re.compile(r"sha256:(?P<digest>[0-9a-fA-F]{64})")
_JOBS = re.compile(
    r"((/v1)?/jobs(/\d+/(pause|resume|cancel|retry))?|/(v1|archives)/watches(/\d+/(pause|resume|secret|remove))?|/v1/stages/\w+/(jobs|estimate)"
    r"|(/v1)?/datasets(/[^/]+/(pause|resume|cancel|correct|generate|clean))?)/?"
)
_CORRECTIONS = re.compile(
    r"/images/\d+/(tags|text|regions)|/v1/images/\d+/(tags/.+|(text|regions)/corrections(/\d+)?)", re.DOTALL
)
_LEARNING = re.compile(
    r"(/v1)?/teach(/suggestions)?|/datasets/[^/]+/(review|pause|resume|cancel)|/v1/datasets/[^/]+/review/tags/.+",
    re.DOTALL,
)
_WATCH = re.compile(r"/v1/watches/\d+")
EVENTS_PATH = re.compile(r"/v1/watches/\d{1,19}/events")
"""Where stores send events. They send the secret of the watch, and no token."""
_FOR_ANYBODY = frozenset({"/login", "/logout"})


@dataclass(frozen=True, slots=True)
class Token:
    """The name of a token, for logs and rate limits, and its scope."""

    name: str
    scope: str

    def may(self, scope: str) -> bool:
        """Return whether this token's scope includes ``scope``."""
        return SCOPES.index(scope) <= SCOPES.index(self.scope)


class Tokens:
    """The accepted tokens. They are compared in constant time. If none are set, no request needs one."""

    def __init__(self, entries: tuple[str, ...]) -> None:
        self._known: list[tuple[Token, bytes, bytes]] = []
        sessions_key = secrets.token_bytes(32)
        for number, entry in enumerate(entries, 1):
            found = _ENTRY.fullmatch(entry)
            token = Token(found["name"], found["scope"]) if found else Token(f"token-{number}", "admin")
            secret = found["secret"] if found else entry
            hashed = _HASH.fullmatch(secret)
            digest = bytes.fromhex(hashed["digest"]) if hashed else _digest(secret.encode())
            # A session must not be computable from a hash alone: anyone who reads the hash could then sign in.
            key = sessions_key + digest if hashed else secret.encode()
            self._known.append((token, digest, _session(key)))

    @property
    def are_set(self) -> bool:
        """Whether requests need a token."""
        return bool(self._known)

    def session_of(self, secret: str) -> str | None:
        """Return the cookie's value for a token's secret, or None if the token is unknown."""
        presented = _digest(secret.strip().encode())
        found = None
        for _, known, session in self._known:
            if hmac.compare_digest(known, presented):
                found = session.decode()
        return found

    def of(self, connection: HTTPConnection) -> Token | None:
        """Return the token of ``connection``, from its header or its session, or None if there is no valid one."""
        secret = bearer_token(connection.headers)
        # Compare digests, so that the duration does not reveal even the length of a token.
        presented = _digest((secret if secret is not None else connection.cookies.get(COOKIE, "")).encode())
        found = None
        for token, known, session in self._known:
            if hmac.compare_digest(known if secret is not None else _digest(session), presented):
                found = token
        return found


def scope_needed(method: str, path: str) -> str:
    """Return the scope that a request needs. Changes need ``admin``, except those listed here for a lower scope."""
    if method in SAFE_METHODS or path in UPLOAD_PATHS or path in _FOR_ANYBODY:
        return "read"
    is_job_or_answer = method == "POST" and (_JOBS.fullmatch(path) or _LEARNING.fullmatch(path))
    is_watch = method == "DELETE" and _WATCH.fullmatch(path)
    is_less = is_job_or_answer or is_watch or _CORRECTIONS.fullmatch(path)
    return "write" if is_less else "admin"


def bearer_token(headers: Headers) -> str | None:
    """Return the token of ``Authorization: Bearer``, or None."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def make_token(name: str, scope: str) -> tuple[str, str]:
    """Return a random token, and the entry of ``RAMQ_API_TOKENS`` that accepts it.

    Raises:
        UsageError: the name or the scope is not valid in an entry.
    """
    if not _NAME.fullmatch(name) or scope not in SCOPES:
        raise UsageError(
            f"a token's name has only letters, digits, dots, dashes and underscores; its scope is {', '.join(SCOPES)}"
        )
    token = f"ramq_{secrets.token_urlsafe(32)}"
    return token, f"{name}:{scope}:sha256:{_digest(token.encode()).hex()}"


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _session(key: bytes) -> bytes:
    return hmac.digest(key, b"ramq page session", hashlib.sha256).hex().encode()

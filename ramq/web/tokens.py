"""Tokens: who may do what. Each entry of ``RAMQ_API_TOKENS`` is ``NAME:SCOPE:TOKEN``, or a token alone, for everything.

In place of a token may stand ``sha256:`` and its SHA-256 in hex: then nothing that the server holds lets anybody in.

A scope includes the ones before it: ``read`` looks and searches, ``write`` starts and steers jobs and
corrects tags, ``admin`` also erases images, says which tags count and chooses what is served.
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
_JOBS = re.compile(r"(/v1)?/jobs(/\d+/(pause|resume|cancel|retry))?/?")
_CORRECTIONS = re.compile(r"/images/\d+/tags|/v1/images/\d+/tags/.+", re.DOTALL)
_FOR_ANYBODY = frozenset({"/login", "/logout"})


@dataclass(frozen=True, slots=True)
class Token:
    """Somebody who may ask: a name for logs and limits, and the most that they may do."""

    name: str
    scope: str

    def may(self, scope: str) -> bool:
        """Whether this token's scope includes ``scope``."""
        return SCOPES.index(scope) <= SCOPES.index(self.scope)


class Tokens:
    """The tokens that are accepted. Compared in constant time; none set means that none is needed."""

    def __init__(self, entries: tuple[str, ...]) -> None:
        self._known: list[tuple[Token, bytes, bytes]] = []
        sessions_key = secrets.token_bytes(32)
        for number, entry in enumerate(entries, 1):
            found = _ENTRY.fullmatch(entry)
            token = Token(found["name"], found["scope"]) if found else Token(f"token-{number}", "admin")
            secret = found["secret"] if found else entry
            hashed = _HASH.fullmatch(secret)
            digest = bytes.fromhex(hashed["digest"]) if hashed else _digest(secret.encode())
            # A session must not follow from a hash alone, or whoever reads the hash could make one.
            key = sessions_key + digest if hashed else secret.encode()
            self._known.append((token, digest, _session(key)))

    @property
    def are_set(self) -> bool:
        """Whether a token is needed at all."""
        return bool(self._known)

    def session_of(self, secret: str) -> str | None:
        """Return the cookie's value for a token's secret, or None if it is not one of ours."""
        presented = _digest(secret.strip().encode())
        found = None
        for _, known, session in self._known:
            if hmac.compare_digest(known, presented):
                found = session.decode()
        return found

    def of(self, connection: HTTPConnection) -> Token | None:
        """Return the token that ``connection`` carries, in its header or as a session; None for none of ours."""
        secret = bearer_token(connection.headers)
        # Digests are compared, so that not even the length of a token shows in the time that it takes.
        presented = _digest((secret if secret is not None else connection.cookies.get(COOKIE, "")).encode())
        found = None
        for token, known, session in self._known:
            if hmac.compare_digest(known if secret is not None else _digest(session), presented):
                found = token
        return found


def scope_needed(method: str, path: str) -> str:
    """Return the scope that a request needs. What changes something and is not known to be less needs ``admin``."""
    if method in SAFE_METHODS or path in UPLOAD_PATHS or path in _FOR_ANYBODY:
        return "read"
    is_less = (method == "POST" and _JOBS.fullmatch(path)) or _CORRECTIONS.fullmatch(path)
    return "write" if is_less else "admin"


def bearer_token(headers: Headers) -> str | None:
    """Return the token of ``Authorization: Bearer``, or None."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def make_token(name: str, scope: str) -> tuple[str, str]:
    """Return a token made at random and the entry of ``RAMQ_API_TOKENS`` that accepts it.

    Raises:
        UsageError: the name or the scope cannot stand in an entry.
    """
    if not _NAME.fullmatch(name) or scope not in SCOPES:
        raise UsageError(f"a name has letters, digits, dots and dashes, a scope is one of {', '.join(SCOPES)}")
    token = f"ramq_{secrets.token_urlsafe(32)}"
    return token, f"{name}:{scope}:sha256:{_digest(token.encode()).hex()}"


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _session(key: bytes) -> bytes:
    return hmac.digest(key, b"ramq page session", hashlib.sha256).hex().encode()

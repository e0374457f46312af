"""The tokens in the settings. Those of users are in the database: see ``ramq.web.callers``.

Each entry of ``RAMQ_API_TOKENS`` is ``NAME:SCOPE:TOKEN``, or only a token, which then has every scope. Instead of the
token, an entry may contain ``sha256:`` and the token's SHA-256 in hex. Then nothing that the server stores can be used
to sign in.

Each scope is a role (``ramq.web.roles``) under an older name: ``read`` is ``look``, ``write`` is ``run``.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ramq.services.token_secrets import digest_of, new_secret, session_from
from storage.accounts import ROLES
from storage.errors import UsageError

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.requests import HTTPConnection

    from storage.accounts import Role

COOKIE = "ramq_session"
SCOPES: dict[str, Role] = {"read": "look", "write": "run", "admin": "admin"}

_NAME = re.compile(r"[\w.-]+")
_ENTRY = re.compile(rf"(?P<name>{_NAME.pattern}):(?P<scope>{'|'.join(SCOPES)}):(?P<secret>.+)", re.DOTALL)
_HASH = re.compile(r"sha256:(?P<digest>[0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class Token:
    """The name of a token's user, for logs, rate limits and what they say; and what it allows.

    ``id`` is that of a token in the database; None: it is in the settings.
    """

    name: str
    role: Role
    id: int | None = None

    def may(self, role: Role) -> bool:
        """Return whether this token's role includes ``role``."""
        return ROLES.index(role) <= ROLES.index(self.role)

    def refusal(self, role: Role) -> str:
        """Return in words that this token does not allow what needs ``role``, in the words that it was made with."""
        if self.id is not None:
            return f"This requires the role {role}; {self.name} has {self.role} with this token."
        return f"This requires a token of scope {_scope_with(role)}; {self.name} has {_scope_with(self.role)}."


def _scope_with(role: Role) -> str:
    """Return the smallest scope that includes ``role``."""
    return next(scope for scope, of_scope in SCOPES.items() if ROLES.index(role) <= ROLES.index(of_scope))


class Tokens:
    """The accepted tokens of the settings. They are compared in constant time."""

    def __init__(self, entries: tuple[str, ...]) -> None:
        self._known: list[tuple[Token, bytes, bytes]] = []
        self._sessions: dict[bytes, str] = {}
        sessions_key = secrets.token_bytes(32)
        for number, entry in enumerate(entries, 1):
            found = _ENTRY.fullmatch(entry)
            token = Token(found["name"], SCOPES[found["scope"]]) if found else Token(f"token-{number}", "admin")
            secret = found["secret"] if found else entry
            hashed = _HASH.fullmatch(secret)
            digest = bytes.fromhex(hashed["digest"]) if hashed else digest_of(secret)
            # A session must not be computable from a hash alone: anyone who reads the hash could then sign in.
            session = session_from(sessions_key + digest if hashed else secret.encode())
            self._known.append((token, digest, digest_of(session)))
            self._sessions[digest] = session

    @property
    def are_set(self) -> bool:
        """Whether requests need a token because of the settings."""
        return bool(self._known)

    def session_of(self, secret: str) -> str | None:
        """Return the first part of the cookie for a token's secret, or None if the token is unknown."""
        presented = digest_of(secret)
        found = None
        for _, known, _session in self._known:
            if hmac.compare_digest(known, presented):
                found = self._sessions[known]
        return found

    def of(self, connection: HTTPConnection) -> Token | None:
        """Return the token of ``connection``, from its header or its cookie, or None if there is no valid one.

        Whether the session has ended is not asked here.
        """
        presented = presented_by(connection)
        return None if presented is None else self.matching(presented)

    def matching(self, presented: Presented) -> Token | None:
        """Return the token with this hash, or the one whose session has it. All are compared, whichever it is."""
        found = None
        for token, known, session in self._known:
            if hmac.compare_digest(session if presented.is_session else known, presented.digest):
                found = token
        return found


class Presented(NamedTuple):
    """What a request presents: the token in its header or, if there is no such header, the cookie of a session.

    Attributes:
        digest: the SHA-256 of the token, or of the first part of the cookie, which only a token yields.
        cookie: the SHA-256 of the whole cookie. Its second part is random, so that each session ends by itself.
            None: a token.
    """

    digest: bytes
    cookie: bytes | None = None

    @property
    def is_session(self) -> bool:
        """Whether this is a session and not a token."""
        return self.cookie is not None


def new_cookie(session: str) -> str:
    """Return the cookie of a new session. ``session`` is what only a token yields."""
    return f"{session}.{secrets.token_hex(16)}"


def presented_by(connection: HTTPConnection) -> Presented | None:
    """Return what a request presents to be let in; None: nothing. A header, also a wrong one, is what counts."""
    secret = bearer_token(connection.headers)
    if secret is not None:
        return Presented(digest_of(secret))
    cookie = connection.cookies.get(COOKIE)
    if cookie is None:
        return None
    return Presented(digest_of(cookie.partition(".")[0]), digest_of(cookie))


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
    token = new_secret()
    return token, f"{name}:{scope}:sha256:{digest_of(token).hex()}"

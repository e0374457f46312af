"""Who sends a request: a token of the settings, a token of a user, or somebody on this machine without any.

The valid tokens of users are kept in memory. A process reads them again when the newest of them is
``FRESH_SECONDS`` old: first only whether anything was changed, which is one short statement. So a token that is
revoked, and a user who is disabled, are let in for at most so long by any web server, and a request costs no statement.
What a process changes itself, it knows at once. A token that it does not know may be new: it asks then, too, but at
most every ``MISS_SECONDS``, however many wrong tokens are sent. All of this holds for sessions of the page, too, with
tokens of users and of the settings.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from ramq.services.author import LOCAL
from ramq.services.token_secrets import digest_of, session_from
from ramq.web.tokens import Presented, Token, new_cookie, presented_by
from storage.errors import RamqError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import HTTPConnection

    from ramq.services.accounts import AccountClient
    from ramq.web.tokens import Tokens
    from storage.accounts import Known, Role, ValidToken

log = logging.getLogger(__name__)

FRESH_SECONDS = 2.0
"""How long a process uses what it knows of users and tokens before it asks the database again."""

MISS_SECONDS = 0.2
"""The same, for a token that it does not know."""

_HOUR_SECONDS = 3_600
_CALLER = "ramq.caller"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request.

    Attributes:
        token: a valid one; None: none was presented, or a wrong one.
        needs_token: whether requests need one.
        is_unsure: the database did not answer, so whether the token is valid is not known.
    """

    token: Token | None
    needs_token: bool
    is_unsure: bool = False

    def may(self, role: Role | None) -> bool:
        """Return whether the caller may do what needs ``role``; None: what anybody may."""
        if role is None or not self.needs_token:
            return True
        return self.token is not None and self.token.may(role)


NOBODY = Caller(None, needs_token=True)


def caller_in(connection: HTTPConnection) -> Caller:
    """Return who was found to send this request. Before that is known, nobody."""
    found: Caller = connection.scope.get(_CALLER, NOBODY)
    return found


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was read of the database. ``ends`` and ``session_ends``: when each expires, on the clock of ``Callers``."""

    known: Known
    by_hash: Mapping[bytes, ValidToken]
    by_session: Mapping[bytes, ValidToken]
    ends: Mapping[int, float]
    session_ends: Mapping[bytes, float]


class Callers:
    """Finds out who sends a request. Thread-safe.

    Args:
        tokens: those of the settings.
        accounts: users and their tokens.
        is_reachable: whether other machines can reach this process. Then requests always need a token.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        tokens: Tokens,
        accounts: Callable[[], AccountClient],
        *,
        is_reachable: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens, self._accounts, self._clock = tokens, accounts, clock
        self._is_reachable = is_reachable
        self._lock = threading.Lock()
        self._kept: _Kept | None = None
        self._read_at = float("-inf")
        self._changes = 0
        self._failed = False
        self._noted: dict[int, int] = {}
        self._used: set[int] = set()
        self._asking: asyncio.Task[None] | None = None

    async def identify(self, connection: HTTPConnection) -> Caller:
        """Return who sends a request, and remember it with the request."""
        presented = presented_by(connection)
        token = None if presented is None else self._tokens.matching(presented)
        if token is not None and presented is not None and not presented.is_session:
            caller = Caller(token, needs_token=True)
        elif presented is None and (self._tokens.are_set or self._is_reachable):
            caller = NOBODY
        else:
            caller = await self._among_users(presented, token)
        connection.scope[_CALLER] = caller
        return caller

    @property
    def need_tokens(self) -> bool:
        """Whether requests need a token, as far as is known."""
        kept = self._kept
        return self._tokens.are_set or self._is_reachable or (kept is not None and kept.known.has_tokens)

    def present_name(self, name: str) -> str:
        """Return the name that the user now has who had ``name`` once."""
        kept = self._kept
        return name if kept is None else kept.known.renamed.get(name, name)

    async def sign_in(self, secret: str) -> str | None:
        """Begin a session of the page with a token's secret. Returns its cookie; None: the token is not valid."""
        presented = Presented(digest_of(secret))
        token, session = self._tokens.matching(presented), self._tokens.session_of(secret)
        if token is None or session is None:
            token = (await self._among_users(presented)).token
            session = session_from(secret.strip().encode())
        if token is None:
            return None
        cookie = new_cookie(session)
        await run_in_threadpool(self._accounts().start_session, digest_of(cookie), token.name)
        return cookie

    async def sign_out(self, connection: HTTPConnection) -> None:
        """End the session of a request. The token with which it was begun stays valid."""
        presented, token = presented_by(connection), caller_in(connection).token
        if presented is not None and presented.cookie is not None and token is not None:
            await run_in_threadpool(self._accounts().end_session, presented.cookie, token.name)

    async def searches_of(self, token: Token | None) -> tuple[str, str, float] | None:
        """Return the quota of searches of who sends a request; None: no limit.

        What other processes changed counts a little later.

        Returns:
            Whose searches are counted together, the user's name, and how many there may be in a second. A token's own
            quota comes before that of its user, and that before everybody's.
        """
        if not self._is_fresh(FRESH_SECONDS):  # a token of the settings asks nothing of the database
            if self._kept is None or self._changes != self._accounts().changes:
                await run_in_threadpool(self.refresh)
            elif self._asking is None or self._asking.done():
                # A search may need nothing else of this database, which takes ten seconds to say that it is away.
                self._asking = asyncio.create_task(run_in_threadpool(self.refresh))
        kept = self._kept
        if kept is None or not kept.known.searches:
            return None
        searches, name = kept.known.searches, LOCAL if token is None else token.name
        if token is not None and token.id is not None and ("token", str(token.id)) in searches:
            who, most = f"token {token.id}", searches["token", str(token.id)]
        else:
            who, most = f"user {name}", searches.get(("user", name), searches.get(("default", "")))
        return None if most is None else (who, name, most)

    def refresh(self, seconds: float | None = None) -> None:
        """Ask the database, unless that was done ``seconds`` ago or less. What is known stays if it is away."""
        with self._lock:
            if self._is_fresh(FRESH_SECONDS if seconds is None else seconds):
                return
            before, began = self._kept, self._clock()
            changes = self._accounts().changes
            used, self._used = self._used, set()
            try:
                known = self._accounts().known(before.known if before else None, used)
            except RamqError as error:
                self._used |= used
                if not self._failed:
                    log.warning("users_not_read", extra={"error": str(error)})
                self._failed = True
                self._read_at = self._clock()  # those who waited meanwhile need not try, too
            else:
                self._failed = False
                if before is None or known is not before.known:
                    self._kept = self._keep(known)
                self._read_at = began  # what was committed while this read may be missing
                self._changes = changes

    def _is_fresh(self, seconds: float) -> bool:
        age = self._clock() - self._read_at
        if self._failed:
            return age < FRESH_SECONDS
        return age < seconds and self._changes == self._accounts().changes

    def _keep(self, known: Known) -> _Kept:
        now = self._clock()
        return _Kept(
            known,
            {token.hash: token for token in known.tokens},
            {token.session_hash: token for token in known.tokens},
            {token.id: now + token.seconds_left for token in known.tokens if token.seconds_left is not None},
            {cookie: now + seconds_left for cookie, seconds_left in known.sessions.items()},
        )

    async def _among_users(self, presented: Presented | None, of_settings: Token | None = None) -> Caller:
        """Ask what the database says. ``of_settings``: the token of the settings with which the session was begun."""
        if not self._is_fresh(FRESH_SECONDS):
            await run_in_threadpool(self.refresh)
        caller = self._known(presented, of_settings)
        if presented is not None and caller.token is None and not self._is_fresh(MISS_SECONDS):
            await run_in_threadpool(self.refresh, MISS_SECONDS)
            caller = self._known(presented, of_settings)
        return caller

    def _known(  # noqa: PLR0911  (one for each reason)
        self, presented: Presented | None, of_settings: Token | None
    ) -> Caller:
        kept = self._kept
        if presented is None or kept is None:
            is_unsure = presented is not None and self._failed
            return Caller(None, needs_token=self.need_tokens, is_unsure=is_unsure)
        if presented.cookie is not None and self._clock() >= kept.session_ends.get(presented.cookie, float("-inf")):
            return Caller(None, needs_token=self.need_tokens, is_unsure=self._failed)
        if of_settings is not None:
            return Caller(of_settings, needs_token=True)
        found = (kept.by_session if presented.is_session else kept.by_hash).get(presented.digest)
        # The look-up is by a hash, of which nobody can choose a part. Comparing all of it takes the same time always.
        expected = b"" if found is None else found.session_hash if presented.is_session else found.hash
        if found is None or not hmac.compare_digest(expected, presented.digest):
            return Caller(None, needs_token=self.need_tokens, is_unsure=self._failed)
        if self._clock() >= kept.ends.get(found.id, float("inf")):
            return Caller(None, needs_token=True)
        if self._failed:  # it may be revoked by now
            return Caller(None, needs_token=True, is_unsure=True)
        hour = int(time.time() // _HOUR_SECONDS)
        if self._noted.get(found.id) != hour:
            self._noted[found.id] = hour
            self._used.add(found.id)
        return Caller(Token(found.user, found.role, found.id), needs_token=True)

"""Which database searches read: a standby while it can be used, otherwise the database itself.

A standby is used while it answers, follows the database, and is not far behind it. ``liveness`` asks both every second.
How far the standby is behind is measured with the database's own log: how long ago the database had written what the
standby has not replayed. This is right also where nothing is written for hours, and where the standby is cut off from
the database. While the database itself does not answer, a standby that does is used however far behind it is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeVar

from storage.database import make_engine, server_of
from storage.errors import DatabaseAwayError
from storage.liveness import Answer, Liveness
from storage.remembered import read_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

STANDBY_SECONDS = 2.0
"""How long the standby may take to answer a small question before searches leave it."""

DATABASE_SECONDS = 10.0
"""The same of the database itself. There is no other one to go to, so it is given more time."""

REST_SECONDS = 10.0
"""How long a standby that failed is left alone where nobody asks it every second."""

MOST_BEHIND_SECONDS = 300.0
"""How far behind a standby may be."""

_KEPT_POSITIONS = 4_000
"""Positions of the database's log that are kept: one for each second in which it wrote."""

Found = TypeVar("Found")


def make_standby_engine(url: str, *, pool_size: int = 10) -> Engine:
    """Return an engine for a standby. It does not wait long for a connection: there is another database to read."""
    return make_engine(url, pool_size=pool_size, connect_seconds=round(STANDBY_SECONDS))


class Databases:
    """The database, and a standby of it if there is one. Thread-safe.

    Args:
        engine: the database.
        standby: what searches should read; None: the database.
        most_behind_seconds: how far behind the standby may be.

    Attributes:
        fallbacks: how many reads the database answered because the standby had failed in the middle of them.
    """

    def __init__(
        self, engine: Engine, standby: Engine | None = None, *, most_behind_seconds: float = MOST_BEHIND_SECONDS
    ) -> None:
        self.engine, self.standby = engine, standby
        self.fallbacks = 0
        self._most_behind_seconds = most_behind_seconds
        self._lock = threading.Lock()
        self._positions: deque[tuple[float, int]] = deque(maxlen=_KEPT_POSITIONS)
        self._has_caught_up = False
        self._reason: str | None = None
        self._failed: tuple[float, str] | None = None
        self._users = 0
        self._running = ExitStack()
        self._of_database = Liveness(engine, DATABASE_SECONDS, self._note)
        self._of_standby = (
            None if standby is None else Liveness(standby, STANDBY_SECONDS, self._note, wants_standby=True)
        )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Ask the databases every second during the block. Blocks may overlap."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._running.enter_context(self._of_database.running())
                if self._of_standby is not None:
                    self._running.enter_context(self._of_standby.running())
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                is_last = not self._users
            if is_last:
                self._running.close()

    def read(self, call: Callable[[Engine], Found]) -> Found:
        """Return what ``call`` reads of the standby, or of the database if the standby is not used or fails meanwhile.

        Raises:
            DatabaseAwayError: the database itself does not answer. Whatever else ``call`` raises, is raised.
        """
        engine = self.chosen
        try:
            return call(engine)
        except DatabaseAwayError as error:
            if error.engine is self.engine or engine is self.engine:
                raise
            self._note_failure(str(error))
        return call(self.engine)

    def look(self, call: Callable[[Session], Found]) -> Found:
        """Return what ``call`` reads in one session of ``read_only``. See ``read``."""

        def at(engine: Engine) -> Found:
            with read_only(engine) as session:
                return call(session)

        return self.read(at)

    @property
    def chosen(self) -> Engine:
        """The database that a search should read now."""
        if self.standby is None:
            return self.engine
        assert self._of_standby is not None
        self._of_standby.wait_for_first(STANDBY_SECONDS + 1)
        self._of_database.wait_for_first(STANDBY_SECONDS)
        return self.engine if self._why_not() else self.standby

    @property
    def why_not_standby(self) -> str | None:
        """Why searches do not read the standby, in one line; None: they do, or there is none."""
        return None if self.standby is None else self._why_not()

    @property
    def is_promoted(self) -> bool:
        """Whether the server for searches answers and follows no database."""
        if self._of_standby is None or self._of_standby.trouble or self._of_standby.answer is None:
            return False
        return not self._of_standby.answer.is_standby

    @property
    def behind_seconds(self) -> float | None:
        """How far the standby is behind the database; None: unknown."""
        answer = None if self._of_standby is None else self._of_standby.answer
        with self._lock:
            return None if answer is None or not answer.is_standby else self._behind(answer)

    def _why_not(self) -> str | None:
        assert self._of_standby is not None
        if self._failed is not None and time.monotonic() - self._failed[0] < REST_SECONDS:
            return self._failed[1]
        answer = self._of_standby.answer
        if answer is None or not self._of_standby.is_running or self._of_standby.trouble or self._of_database.trouble:
            return self._of_standby.trouble
        if not answer.is_standby:
            return "it follows no database: it was promoted, or RAMQ_SEARCH_DATABASE_URL leads to the database itself"
        behind = self.behind_seconds or 0.0
        if behind > self._most_behind_seconds:
            return f"it is {behind:,.0f} s behind the database, and {self._most_behind_seconds:,.0f} s are the most"
        return None

    def _behind(self, answer: Answer) -> float:
        """Return how long ago the database had written what the standby has not replayed."""
        while self._positions and self._positions[0][1] <= answer.position:
            self._positions.popleft()
            self._has_caught_up = True
        if not self._positions:
            return 0.0
        if not self._has_caught_up and answer.replayed_seconds is not None:
            # Since this process began, the standby was always behind: by what it replayed last, it is at most so far.
            return answer.replayed_seconds
        return time.monotonic() - self._positions[0][0]

    def _note(self) -> None:
        """Note what the databases answered, and say when searches go to another one."""
        answer = self._of_database.answer
        if answer is not None and not answer.is_standby:
            with self._lock:
                if self._positions and self._positions[-1][1] > answer.position:
                    self._positions.clear()  # another server took over, and counts from an earlier place
                if not self._positions or self._positions[-1][1] < answer.position:
                    self._positions.append((answer.asked_at, answer.position))
        if self.standby is None:
            return
        assert self._of_standby is not None
        if self._failed is not None and (found := self._of_standby.answer) and found.asked_at > self._failed[0]:
            self._failed = None
        reason = self._why_not()
        with self._lock:
            before, self._reason = self._reason, reason
        if before is None and reason is not None:
            log.warning("searches read the database itself", extra={"reason": reason})
        elif before is not None and reason is None:
            # Connections that were opened meanwhile may lead to another server, or be ended.
            self.standby.dispose()
            log.warning("searches read the standby again", extra={"standby": server_of(self.standby)})

    def _note_failure(self, reason: str) -> None:
        """Leave the standby alone until it answers the next question."""
        assert self._of_standby is not None
        with self._lock:
            self.fallbacks += 1
            self._failed = (time.monotonic(), reason)
        self._of_standby.ask_soon()

"""What a worker does for watched archives, step by step."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from storage.database import limit_idleness, unit_of_work
from storage.ledger import watches
from workers.watching.receiving import Receiving
from workers.watching.schedule import Schedule

if TYPE_CHECKING:
    from sqlalchemy import Engine

log = structlog.get_logger()

PAUSE_SECONDS = 1.0
FORGET_SECONDS = 60.0
"""Between two times that old jobs are deleted, a hundred at most."""
MOST_PAUSE_SECONDS = 4.0
"""However many workers share the work: each has to renew the leases of the watches whose events it receives."""


class Watching:
    """The part of one worker in all watches. Not thread-safe.

    Args:
        engine: the database.
        owner: the worker.
        archive_allow: roots that watches may read; empty: all.
        keep_days: how long ended jobs on the keys of events are kept; 0: for ever.
    """

    def __init__(self, engine: Engine, owner: str, archive_allow: tuple[str, ...], keep_days: int = 0) -> None:
        self._engine, self._keep_days = engine, keep_days
        self._schedule = Schedule(engine, archive_allow)
        self._receiving = Receiving(engine, owner)
        self._forgot_at = float("-inf")

    def step(self) -> None:
        """Begin the jobs that are due, and receive the events that nobody else receives."""
        self._schedule.step()
        self._receiving.step()
        if self._keep_days and time.monotonic() - self._forgot_at >= FORGET_SECONDS:
            self._forgot_at = time.monotonic()
            with unit_of_work(self._engine) as session:
                limit_idleness(session)
                count = watches.forget_old_jobs(session, self._keep_days)
            if count:
                log.info("old jobs of watches deleted", jobs=count)

    def stop(self) -> None:
        """Let other workers receive the events at once."""
        self._receiving.stop()


def pause_seconds(workers: int) -> float:
    """Return how long a worker pauses between two steps, if so many share them."""
    return min(PAUSE_SECONDS * workers, MOST_PAUSE_SECONDS)

"""What a worker does for watched archives, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.watching.receiving import Receiving
from workers.watching.schedule import Schedule

if TYPE_CHECKING:
    from sqlalchemy import Engine

PAUSE_SECONDS = 1.0
MOST_PAUSE_SECONDS = 4.0
"""However many workers share the work: each has to renew the leases of the watches whose events it receives."""


class Watching:
    """The part of one worker in all watches. Not thread-safe.

    Args:
        engine: the database.
        owner: the worker.
        archive_allow: roots that watches may read; empty: all.
    """

    def __init__(self, engine: Engine, owner: str, archive_allow: tuple[str, ...]) -> None:
        self._schedule = Schedule(engine, archive_allow)
        self._receiving = Receiving(engine, owner)

    def step(self) -> None:
        """Begin the jobs that are due, and receive the events that nobody else receives."""
        self._schedule.step()
        self._receiving.step()

    def stop(self) -> None:
        """Let other workers receive the events at once."""
        self._receiving.stop()


def pause_seconds(workers: int) -> float:
    """Return how long a worker pauses between two steps, if so many share them."""
    return min(PAUSE_SECONDS * workers, MOST_PAUSE_SECONDS)

"""The shards that a worker holds: kept alive, ended in good order, or let go when they are lost."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

import structlog

from storage.database import unit_of_work
from storage.errors import ServiceUnavailableError
from storage.ledger import shards
from workers.pipeline.retry import backoff_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from workers.pipeline.work import Lease

log = structlog.get_logger()

T = TypeVar("T")

STUCK_SECONDS = 600.0
"""A lease that made no progress for so long is not prolonged: a hung device must not hold a shard for ever."""


class HeldLeases:
    """Leases of one pipeline. Thread-safe.

    Args:
        engine: the database.
        lease_seconds: how long a lease lasts unless it is prolonged.
        stopping: set when the pipeline stops, so that nobody waits for a database that is away.
    """

    def __init__(self, engine: Engine, lease_seconds: float, stopping: threading.Event) -> None:
        self._engine = engine
        self._lease_seconds = lease_seconds
        self._stopping = stopping
        self._changed = threading.Condition()
        self._held: set[Lease] = set()

    @property
    def held(self) -> list[Lease]:
        """The shards that are held now."""
        return list(self._held)

    def add(self, lease: Lease) -> None:
        """Take a shard into care."""
        with self._changed:
            self._held.add(lease)

    def notify(self) -> None:
        """Let those who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait until ``is_so()``; it is asked again after every change of the leases and every ``notify``."""
        with self._changed:
            self._changed.wait_for(is_so)

    def renew_all(self) -> None:
        """Prolong the leases that are held; called every third of a lease by the worker's heart."""
        for lease in self.held:
            if time.monotonic() - lease.progress_at > STUCK_SECONDS:
                log.error("no progress, lease not prolonged", **lease.labels)
                continue
            with unit_of_work(self._engine) as session:
                held = shards.renew(session, lease.shard.id, lease.shard.epoch, self._lease_seconds)
            if not held and not lease.is_over and lease in self._held:
                log.warning("lease lost", **lease.labels)
                self.drop(lease)

    def finish(self, lease: Lease) -> None:
        """End a lease whose images are all written or put off."""
        shard = lease.shard

        def end() -> None:
            with unit_of_work(self._engine) as session:
                if lease.pending:
                    shards.give_back(
                        session,
                        shard,
                        is_transient=True,
                        delay_seconds=backoff_seconds(shard.tries),
                        note=f"waiting: {lease.troubles[-1].detail}" if lease.troubles else None,
                    )
                else:
                    active = time.monotonic() - lease.began_at
                    shards.close(session, shard.id, shard.epoch, dict(lease.stage_seconds), active)

        self.until_available(lease, end)
        if not lease.is_over:
            log.info("shard ended", **lease.labels, waiting=len(lease.pending))
        self.drop(lease)

    def give_up(self, lease: Lease, note: str | None = None) -> None:
        """End a lease with work left: the job was paused, the worker stops or is not fit for it; ``note`` says why."""
        lease.end()  # before it is given back, so that nothing more of it is written

        def end() -> None:
            with unit_of_work(self._engine) as session:
                shards.give_back(session, lease.shard, note=note)

        try:
            end()
        except ServiceUnavailableError as error:  # the lease runs out by itself
            log.warning("lease not given back", **lease.labels, error=str(error))
        self.drop(lease)

    def drop(self, lease: Lease) -> None:
        """Let a lease go without a word to the ledger: it was lost, ended, or is to run out."""
        lease.end()
        with self._changed:
            self._held.discard(lease)
            self._changed.notify_all()

    def until_available(self, lease: Lease, action: Callable[[], T]) -> T | None:
        """Do ``action``, waiting while the database is away; None when the lease was lost meanwhile."""
        tries = 0
        while not lease.is_over:
            try:
                return action()
            except shards.FencedError as error:
                log.warning("fenced", **lease.labels, error=str(error))
                self.drop(lease)
            except ServiceUnavailableError as error:
                log.warning("database away", **lease.labels, error=str(error), tries=tries)
                if self._stopping.wait(backoff_seconds(tries, first=0.2, most=5.0)):
                    self.drop(lease)  # it runs out by itself, and its images are taken up again
                tries += 1
        return None

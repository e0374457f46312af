"""The shards that a worker holds: renew their leases, close them, release them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

import structlog

from storage import traces
from storage.database import unit_of_work
from storage.errors import ServiceUnavailableError
from storage.ledger import shards, turns
from workers.pipeline.retry import backoff_seconds
from workers.pipeline.worked_time import WorkedTime

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from workers.pipeline.work import Lease

log = structlog.get_logger()

T = TypeVar("T")

STUCK_SECONDS = 600.0
"""A lease that made no progress for this long is not renewed: a hung device must not hold a shard forever."""


class HeldLeases:
    """Leases of one pipeline. Thread-safe.

    Args:
        engine: the database.
        lease_seconds: how long a lease lasts without renewal.
        stopping: set when the pipeline stops, to end waiting for an unavailable database.
    """

    def __init__(self, engine: Engine, lease_seconds: float, stopping: threading.Event) -> None:
        self._engine = engine
        self._lease_seconds = lease_seconds
        self._stopping = stopping
        self._changed = threading.Condition()
        self._held: set[Lease] = set()
        self._time = WorkedTime()

    @property
    def held(self) -> list[Lease]:
        """The leases that are held now."""
        return list(self._held)

    @property
    def groups(self) -> int:
        """How many shards are held. Those that go together count as one."""
        return len({lease.goes_with for lease in self.held})

    @property
    def models(self) -> set[str]:
        """The models and captioners of the shards that are held: they are in use, or will be in a moment."""
        return {name for lease in self.held for name in (lease.shard.model, lease.shard.captioner)}

    def add(self, lease: Lease) -> None:
        """Start renewing the lease of a shard."""
        with self._changed:
            self._held.add(lease)

    def notify(self) -> None:
        """Wake the threads that wait for a change of the leases."""
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait until ``is_so()`` is true. It is checked again after every change of the leases and every ``notify``."""
        with self._changed:
            self._changed.wait_for(is_so)

    def renew_all(self) -> None:
        """Renew the leases that are held. The heartbeat thread calls this every third of a lease."""
        first = self._time.so_far(self.held)
        for lease in self.held:
            if time.monotonic() - lease.progress_at > STUCK_SECONDS:
                log.error("no progress, lease not prolonged", **lease.labels)
                continue
            held = self._renew(lease, first[1] if first is not None and first[0] is lease else 0.0)
            if not held and not lease.is_over and lease in self._held:
                log.warning("lease lost", **lease.labels)
                traces.fail(lease.span, "lease_lost")
                self.drop(lease)

    def _renew(self, lease: Lease, worked: float) -> bool:
        """Renew one lease. If more seconds were worked on its shard than were charged, charge the rest."""
        with lease.charging:
            with unit_of_work(self._engine) as session:
                held = shards.renew(session, lease.shard.id, lease.shard.epoch, self._lease_seconds)
                is_more = held and worked > lease.charge.seconds
                if is_more:
                    turns.settle(session, lease.charge, worked)
            if is_more:
                lease.charge = turns.Charge(lease.charge.job_id, worked)
        return held

    def finish(self, lease: Lease) -> None:
        """End a lease whose images are all written or postponed."""
        shard = lease.shard
        self._time.divide(self.held)

        def end() -> None:
            with lease.charging, unit_of_work(self._engine) as session:
                if lease.pending:
                    is_ours = shards.give_back(
                        session,
                        shard,
                        is_transient=True,
                        delay_seconds=backoff_seconds(shard.tries),
                        note=f"waiting: {lease.transient_failures[-1].detail}" if lease.transient_failures else None,
                    )
                else:
                    active = time.monotonic() - lease.began_at
                    shards.close(
                        session,
                        shard.id,
                        shard.epoch,
                        dict(lease.stage_seconds),
                        active_seconds=active,
                        worked_seconds=lease.worked_seconds,
                    )
                    is_ours = True
                if is_ours:
                    turns.settle(session, lease.charge, lease.worked_seconds, lease.settled)

        self.until_available(lease, end)
        if not lease.is_over:
            log.info("shard ended", **lease.labels, waiting=len(lease.pending))
        self.drop(lease)

    def give_up(self, lease: Lease, note: str | None = None) -> None:
        """Release a shard with work left: its job was paused, or the worker stops or is unfit. ``note`` says why."""
        lease.end()  # first of all, to prevent further writes
        self._time.divide(self.held)

        def end() -> None:
            with lease.charging, unit_of_work(self._engine) as session:
                if shards.give_back(session, lease.shard, note=note):
                    turns.settle(session, lease.charge, lease.worked_seconds, lease.settled)

        try:
            end()
        except ServiceUnavailableError as error:  # the lease expires by itself
            log.warning("lease not given back", **lease.labels, error=str(error))
        self.drop(lease)

    def give_up_after(self, seconds: float) -> None:
        """Release what is still held after this time, though a model is busy with it or is being loaded.

        What the model makes of it is not written then: the lease is over. Others can begin at once.
        """

        def give_up() -> None:
            for lease in self.held:
                log.warning("the grace period is over: the batch in hand is given back unfinished", **lease.labels)
                self.give_up(lease)

        timer = threading.Timer(seconds, give_up)
        timer.daemon = True
        timer.start()

    def drop(self, lease: Lease) -> None:
        """Stop holding a lease without telling the ledger: it was lost, has ended, or has to expire."""
        lease.end()
        with self._changed:
            was_held = lease in self._held
            self._held.discard(lease)
            self._changed.notify_all()
        if was_held and lease.span is not None:
            lease.span.set_attribute("ramq.image.pending", len(lease.pending))
            lease.span.end()

    def until_available(self, lease: Lease, action: Callable[[], T]) -> T | None:
        """Do ``action``, retrying while the database is unavailable. Return None if the lease was lost meanwhile."""
        tries = 0
        while not lease.is_over:
            try:
                return action()
            except shards.FencedError as error:
                log.warning("fenced", **lease.labels, error=str(error))
                traces.fail(lease.span, error.code)
                self.drop(lease)
            except ServiceUnavailableError as error:
                log.warning("database away", **lease.labels, error=str(error), tries=tries)
                if self._stopping.wait(backoff_seconds(tries, first=0.2, most=5.0)):
                    self.drop(lease)  # it expires by itself, and another worker takes its images
                tries += 1
        return None

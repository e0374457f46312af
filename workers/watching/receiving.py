"""Which watches' events this worker receives. A lease in the database lets one worker at a time receive them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.ledger import watch_events
from workers.watching.listeners import LISTENERS, SETUP_RETRY_SECONDS

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from workers.watching.listeners import Listener


class Receiving:
    """Holds the listeners of one worker. Not thread-safe.

    Args:
        engine: the database.
        owner: the worker.
    """

    def __init__(self, engine: Engine, owner: str) -> None:
        self._engine = engine
        self._owner = owner
        self._listeners: dict[int, Listener] = {}
        self._declined: dict[int, float] = {}

    def step(self) -> None:
        """Renew the leases, take those that nobody holds, and start and stop listeners accordingly."""
        self._decline()
        with unit_of_work(self._engine) as session:
            held = watch_events.lease(session, self._owner, declined=list(self._declined))
        receivers = {each.id: each for each in held}
        for watch_id in list(self._listeners):
            if watch_id not in receivers or receivers[watch_id].is_new:  # paused, removed, or held by another since
                self._listeners.pop(watch_id).stop()
        for watch_id, receiver in receivers.items():
            if watch_id not in self._listeners:
                self._listeners[watch_id] = LISTENERS[receiver.events](self._engine, self._owner, receiver)
                self._listeners[watch_id].start()

    def _decline(self) -> None:
        """Leave the events that this worker cannot receive to others for a while."""
        now = time.monotonic()
        self._declined = {watch_id: until for watch_id, until in self._declined.items() if until > now}
        ended = [watch_id for watch_id, each in self._listeners.items() if not each.is_alive]
        for watch_id in ended:
            del self._listeners[watch_id]
            self._declined[watch_id] = now + SETUP_RETRY_SECONDS
        if ended:
            with unit_of_work(self._engine) as session:
                watch_events.let_go(session, self._owner, ended)

    def stop(self, timeout_seconds: float = 2.0) -> None:
        """Stop all listeners, and let other workers receive the events at once."""
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            listener.stop()
        until = time.monotonic() + timeout_seconds
        for listener in listeners.values():
            listener.join(max(0.0, until - time.monotonic()))
        with unit_of_work(self._engine) as session:
            watch_events.let_go(session, self._owner, list(listeners))

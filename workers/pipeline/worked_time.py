"""How long a worker worked on each of the shards that it holds, of which users are charged.

The worker's time is divided, so no second of it counts twice, however many shards are held at once. Whenever one ends,
the time since the last one ended is divided among those that are held, as the steps of the pipeline were busy with
each. A shard that only waits behind another one is given next to nothing. Time in which nothing is held is nobody's.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from workers.pipeline.work import Lease


class WorkedTime:
    """Divides the time of one worker. Thread-safe.

    Args:
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until = float("-inf")

    def divide(self, held: Collection[Lease]) -> None:
        """Add the time since the last call to ``worked_seconds`` of these leases: all that are held.

        Call it when one of them ends: what steps are busy with at the moment is not counted before they are done.
        """
        if not held:
            return
        with self._lock:
            now = self._clock()
            elapsed = max(0.0, now - max(self._until, min(lease.began_at for lease in held)))
            self._until = now
            busy = {lease: lease.busy_seconds for lease in held}
            grown = {lease: max(0.0, busy[lease] - lease.counted_seconds) for lease in held}
            total = sum(grown.values())
            for lease in held:
                lease.worked_seconds += elapsed * (grown[lease] / total if total else 1 / len(held))
                lease.counted_seconds = busy[lease]

    def so_far(self, held: Collection[Lease]) -> tuple[Lease, float] | None:
        """Return the first of these leases, and how long was worked on it if all since the last one ended was for it.

        Shards flow through the pipeline one after the other, so this is right but for what the next one got meanwhile.
        """
        if not held:
            return None
        with self._lock:
            first = min(held, key=lambda lease: lease.began_at)
            return first, first.worked_seconds + max(0.0, self._clock() - max(self._until, first.began_at))

"""Batches that a device computes while the host prepares the next one and writes the last one."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.pipeline.infer import Flight
    from workers.pipeline.step import Step
    from workers.pipeline.work import Work

AT_ONCE = 2
"""Batches that a device has at most: one that it computes, and the next one, with which it goes on at once."""

IDLE_SECONDS = 0.2
LOOK_SECONDS = 0.002
"""While batches are under way, the loop looks this often whether the device has finished one."""


class Ahead:
    """The batches under way, in order. Not thread-safe: only the inference thread may use it.

    Args:
        step: gets the time that the model worked.
        land: reads the results of a batch and passes it on.
    """

    def __init__(self, step: Step[Work], land: Callable[[Flight], None]) -> None:
        self._step = step
        self._land = land
        self._flights: deque[Flight] = deque()
        self._landed_at = 0.0

    @property
    def patience(self) -> float:
        """The seconds that the loop may wait for the next image."""
        return LOOK_SECONDS if self._flights else IDLE_SECONDS

    def add(self, flight: Flight) -> None:
        """Add a batch that was just given to its model. If the device has two now, wait for the first one."""
        self._flights.append(flight)
        while len(self._flights) >= AT_ONCE:
            self._land_first()

    def land_done(self) -> None:
        """Pass on the batches that the device has finished."""
        while self._flights and self._flights[0].is_done():
            self._land_first()

    def land_all(self) -> None:
        """Wait for all batches and pass them on."""
        while self._flights:
            self._land_first()

    def _land_first(self) -> None:
        flight = self._flights.popleft()
        # Two batches at once take the time from the start of the first to the end of the second, not the sum.
        began = max(flight.began_at, self._landed_at)
        try:
            self._land(flight)
        finally:
            self._landed_at = time.monotonic()
            self._step.add(flight.batch.lease, self._landed_at - began)

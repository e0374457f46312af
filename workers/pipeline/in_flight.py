"""Batches that a device computes while the host prepares the next one and writes the last one."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from storage import traces
from workers.pipeline.infer import SubmittedBatch
from workers.pipeline.step import tell_failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.pipeline.fitting import Fitting
    from workers.pipeline.infer import Start
    from workers.pipeline.step import Step
    from workers.pipeline.work import Batch, Work

AT_ONCE = 2
"""Batches that a device has at most: one that it computes, and the next one, with which it goes on at once."""

IDLE_SECONDS = 0.2
LOOK_SECONDS = 0.002
"""While batches are under way, the loop looks this often whether the device has finished one."""


class InFlight:
    """The batches under way, in order. Not thread-safe: only the inference thread may use it.

    Args:
        step: gets the time that the model worked.
        fitting: how many images fit into memory.
        read: reads the results of a batch.
        pass_on: passes a batch on to the next step. It may wait; that time is not the model's.
    """

    def __init__(
        self,
        step: Step[Work],
        fitting: Fitting,
        read: Callable[[SubmittedBatch], None],
        pass_on: Callable[[Batch], None],
    ) -> None:
        self._step = step
        self._fitting = fitting
        self._read = read
        self._pass_on = pass_on
        self._submitted: deque[SubmittedBatch] = deque()
        self._free_since = 0.0

    @property
    def patience(self) -> float:
        """The seconds that the loop may wait for the next image."""
        return LOOK_SECONDS if self._submitted else IDLE_SECONDS

    def submit(self, batch: Batch, start: Start) -> None:
        """Give a batch to its model. If the device has two now, read the first one."""
        span = self._step.begun(batch.lease, batch.works)
        with self._step.labelled(batch.lease):
            self._submitted.append(SubmittedBatch(batch, start, self._fitting))
        self._submitted[-1].span = span
        while len(self._submitted) >= AT_ONCE:
            self._read_first()

    def read_done(self) -> None:
        """Read the batches that the device has finished, and pass them on."""
        while self._submitted and self._submitted[0].is_done():
            self._read_first()

    def _read_first(self) -> None:
        submitted = self._submitted.popleft()
        # Two batches at once take the time from the start of the first to the end of the second, not the sum.
        began = max(submitted.began_at, self._free_since)
        try:
            with traces.inside(submitted.span):
                self._read(submitted)
                tell_failure(submitted.span, submitted.batch.works)
        finally:
            self._step.add(submitted.batch.lease, time.monotonic() - began)
        self._pass_on(submitted.batch)
        self._free_since = time.monotonic()  # the next one was not read earlier, as the step after this one had no room

"""What every stage of the pipeline stands on: the queue before it, the threads that run it, the time they worked."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from structlog.contextvars import bind_contextvars, reset_contextvars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workers.pipeline.metrics import WorkerMetrics
    from workers.pipeline.work import Lease

T = TypeVar("T")

_CLOSE = None
"""What a queue holds behind its last image."""


class Stage(Generic[T]):
    """One stage: threads that take from one bounded queue.

    Args:
        name: what logs, metrics and threads call it.
        width: how many threads run it.
        places: how many things may wait before it.
        metrics: told how long the threads worked.
    """

    def __init__(self, name: str, width: int, places: int, metrics: WorkerMetrics) -> None:
        self.name = name
        self.inbox: queue.Queue[T | None] = queue.Queue(places)
        self.busy_seconds = 0.0
        self._width = width
        self._metrics = metrics
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def start(self, loop: Callable[[], None], on_error: Callable[[Exception], None]) -> None:
        """Run ``loop`` in the stage's threads until it returns; it takes from the inbox and returns at a None."""
        for number in range(self._width):
            thread = threading.Thread(target=_guard, args=(loop, on_error), name=f"{self.name}-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Let the threads end behind what waits now. Nothing may be put into the inbox any more."""
        for _ in self._threads:
            self.inbox.put(_CLOSE)
        for thread in self._threads:
            thread.join()

    @contextmanager
    def timed(self, lease: Lease, **about: str) -> Iterator[None]:
        """Count the time of a ``with`` block as that of one full-time worker of the stage.

        Every line that is logged meanwhile says what the block is about.
        """
        outside = bind_contextvars(**lease.labels, stage=self.name, **about)
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = (time.perf_counter() - began) / self._width
            lease.add_seconds(self.name, seconds)
            with self._lock:
                self.busy_seconds += seconds
            self._metrics.busy(self.name, seconds)
            reset_contextvars(**outside)


def _guard(loop: Callable[[], None], on_error: Callable[[Exception], None]) -> None:
    """Run a stage; after an error that concerns the worker, go on so that the queue before it drains."""
    while True:
        try:
            loop()
        except Exception as error:  # noqa: BLE001  (handed to the thread that feeds, which raises it)
            on_error(error)
        else:
            return

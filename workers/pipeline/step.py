"""Base of every step of the pipeline: the queue before it, the threads that run it, and the time they worked."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from structlog.contextvars import bind_contextvars, reset_contextvars

from storage import traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from opentelemetry.trace import Span

    from workers.pipeline.metrics import WorkerMetrics
    from workers.pipeline.work import Lease, Work

T = TypeVar("T")

_CLOSE = None
"""Sentinel that a queue holds after its last image."""


class Step(Generic[T]):
    """One step: threads that read from one bounded queue.

    Args:
        name: its name in logs, metrics and thread names.
        width: number of threads.
        places: capacity of its queue.
        metrics: receives the working time of the threads.
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
        """Run ``loop`` in the step's threads until it returns. It reads from the inbox and returns at a None."""
        for number in range(self._width):
            thread = threading.Thread(target=_guard, args=(loop, on_error), name=f"{self.name}-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """End the threads after the items that wait now. Nothing may be put into the inbox after this."""
        for _ in self._threads:
            self.inbox.put(_CLOSE)
        for thread in self._threads:
            thread.join()

    @contextmanager
    def timed(self, lease: Lease, works: Sequence[Work] = ()) -> Iterator[None]:
        """Add the time of a ``with`` block to the step, trace it, and label its log lines: those of one image by it."""
        began, about = time.perf_counter(), {"key": works[0].image.key} if len(works) == 1 else {}
        span = self.begun(lease, works)
        try:
            with traces.inside(span), self.labelled(lease, **about):
                yield
                tell_failure(span, works)
        finally:
            self.add(lease, time.perf_counter() - began)

    def begun(self, lease: Lease, works: Sequence[Work]) -> Span | None:
        """Begin the span of what this step does with these images of a shard. None: it is not recorded."""
        if lease.span is None:
            return None
        attributes: dict[str, str | int | list[int]] = {"ramq.image.count": len(works)}
        if len(works) == 1:
            attributes |= {"ramq.image.id": works[0].image.id}
            attributes |= {"ramq.image.key": works[0].image.key} if traces.names_keys() else {}
        else:
            attributes |= {"ramq.image.ids": [work.image.id for work in works]}
        return traces.begin_below(lease.span, self.name, attributes)

    @contextmanager
    def labelled(self, lease: Lease, **about: str) -> Iterator[None]:
        """Let log lines inside a ``with`` block carry the labels of the lease, the step and ``about``."""
        outside = bind_contextvars(**lease.labels, stage=self.name, **about)
        try:
            yield
        finally:
            reset_contextvars(**outside)

    def add(self, lease: Lease, seconds: float) -> None:
        """Add the working time of one thread to the step and to a shard, divided by the number of threads."""
        seconds /= self._width
        lease.add_seconds(self.name, seconds)
        with self._lock:
            self.busy_seconds += seconds
        self._metrics.busy(self.name, seconds)


def tell_failure(span: Span | None, works: Sequence[Work]) -> None:
    """Let a span tell the failure of the only image that it is about."""
    if span is not None and len(works) == 1 and (failure := works[0].failure) is not None:
        traces.fail(span, failure.code)


def _guard(loop: Callable[[], None], on_error: Callable[[Exception], None]) -> None:
    """Run a step. After an error that concerns the worker, continue, to drain the queue before it."""
    while True:
        try:
            loop()
        except Exception as error:  # noqa: BLE001  (passed to the feeding thread, which raises it)
            on_error(error)
        else:
            return

"""Batch: collect images of one shard until the batch is full or has to be flushed; and batches that wait together."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from workers.pipeline.work import Batch

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable

    from workers.pipeline.work import Lease, Work

LINGER_SECONDS = 1.0
"""A batch is sent incomplete after this time. Otherwise one slow object would delay the commit of the others."""

WRITTEN_TOGETHER = 3
"""Most batches that are written in one transaction. More would be lost if the worker is killed, and save little."""


def add_waiting(batch: Batch, inbox: queue.Queue[Batch | None]) -> int:
    """Add the next batches of the same shard that wait already, so that one commit does for all. Return how many.

    Nothing is waited for: when writing keeps up, every batch is written by itself. Only one thread may read ``inbox``.
    """
    added = 0
    while added < WRITTEN_TOGETHER - 1:
        with inbox.mutex:
            following = inbox.queue[0] if inbox.queue else None
        if following is None or following.lease is not batch.lease:
            break
        inbox.get()
        batch.works += following.works
        added += 1
    return added


class Batcher:
    """Collects images per shard. Not thread-safe: only the inference thread may use it.

    Args:
        size_of: returns the number of decoded images in a full batch of a shard.
    """

    def __init__(self, size_of: Callable[[Lease], int]) -> None:
        self._size_of = size_of
        self._open: dict[Lease, tuple[Batch, float]] = {}

    def add(self, work: Work, *, is_last: bool) -> Batch | None:
        """Add an image and return the batch if it is now complete."""
        batch, since = self._open.get(work.lease, (Batch(work.lease), time.monotonic()))
        batch.works.append(work)
        # Failed images take up no room in a batch. But a shard of broken files must not commit one by one either.
        size = self._size_of(work.lease)
        full = len(batch.sound) >= size or len(batch.works) >= 4 * size
        if full or is_last:
            self._open.pop(work.lease, None)
            return batch
        self._open[work.lease] = (batch, since)
        return None

    def overdue(self) -> list[Batch]:
        """Remove and return the batches that waited too long or whose lease is over."""
        now = time.monotonic()
        due = [lease for lease, (_, since) in self._open.items() if now - since > LINGER_SECONDS or lease.is_over]
        return [self._open.pop(lease)[0] for lease in due]

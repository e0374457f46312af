"""Batch: images of one shard together, full or flushed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from workers.pipeline.work import Batch

if TYPE_CHECKING:
    from workers.pipeline.work import Lease, Work

LINGER_SECONDS = 1.0
"""A batch that waits longer goes as it is, so that one slow object does not hold back its neighbours' commit."""


class Batcher:
    """Collects images per shard. Not thread-safe: belongs to the inferring thread.

    Args:
        batch_size: how many decoded images make a batch.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._open: dict[Lease, tuple[Batch, float]] = {}

    def add(self, work: Work, *, is_last: bool) -> Batch | None:
        """Add an image; return the batch if it is complete now."""
        batch, since = self._open.get(work.lease, (Batch(work.lease), time.monotonic()))
        batch.works.append(work)
        # Failures ride along without taking a place, or a shard of broken files would commit one by one.
        full = len(batch.sound) >= self._batch_size or len(batch.works) >= 4 * self._batch_size
        if full or is_last:
            self._open.pop(work.lease, None)
            return batch
        self._open[work.lease] = (batch, since)
        return None

    def overdue(self) -> list[Batch]:
        """Return, and forget, the batches that waited too long or whose lease is over."""
        now = time.monotonic()
        due = [lease for lease, (_, since) in self._open.items() if now - since > LINGER_SECONDS or lease.is_over]
        return [self._open.pop(lease)[0] for lease in due]

"""Prometheus metrics of a worker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge

from workers.pipeline.paces import Paces

if TYPE_CHECKING:
    from workers.pipeline.work import Batch


class WorkerMetrics:
    """Metrics of one worker process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.images_settled = 0
        self._images = Counter("ramq_images", "Images written or put off", registry=self.registry)
        self._stage_seconds = Counter(
            "ramq_stage_seconds", "Seconds a stage was busy, per thread of it", ["stage"], registry=self.registry
        )
        self._queue = Gauge("ramq_stage_queue", "Images waiting before a stage", ["stage"], registry=self.registry)
        self._leases = Gauge("ramq_leases", "Shards held", registry=self.registry)
        self._rate = 0.0
        self._measured_at = time.monotonic()
        self._measured_images = 0
        self.pace = Paces()

    def settled(self, batch: Batch) -> None:
        """Count the images of a batch, which were written or postponed.

        An image that several stages have at once counts once as an image, and for the pace of each of them.
        """
        lease = batch.lease
        if lease.goes_with == lease.shard.id:
            self.images_settled += len(batch.works)
            self._images.inc(len(batch.works))
        if lease.shard.from_generation_id is None:  # retagging reads no picture, so it says nothing of other jobs
            self.pace.add(batch)

    def measure_rate(self, *, is_working: bool) -> float:
        """Return images per second, smoothed over about three calls. Idle time does not count."""
        now, images = time.monotonic(), self.images_settled
        elapsed, settled = now - self._measured_at, images - self._measured_images
        self._measured_at, self._measured_images = now, images
        fresh = settled / elapsed if elapsed else 0.0
        self._rate = fresh if not self._rate else 0.7 * self._rate + 0.3 * fresh
        if not is_working:
            self._rate = 0.0
        return self._rate

    def busy(self, stage: str, seconds: float) -> None:
        """Count the time that a stage worked."""
        self._stage_seconds.labels(stage).inc(seconds)

    def observe(self, depths: dict[str, int], leases: int) -> None:
        """Set the gauges for queue lengths and for shards held."""
        for stage, depth in depths.items():
            self._queue.labels(stage).set(depth)
        self._leases.set(leases)

"""How fast a worker is with each model: measured while it works, and reported now and then."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.errors import ServiceUnavailableError
from storage.ledger import paces

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from workers.pipeline.work import Batch

REPORT_SECONDS = 10.0
"""Between two reports of a worker: many workers share a row."""


class Paces:
    """What a worker did since its last report, by stage and model. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._worked_until: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._reported_at = 0.0

    def add(self, batch: Batch) -> None:
        """Add the images of a batch that were looked at, and the time since the last one of the same stage and model.

        Pauses between two shards, and the time in which a model is loaded, do not count. Nor do images that took over
        the results of others, or that are tried again later.
        """
        lease, now = batch.lease, time.monotonic()
        kind = (lease.shard.stage, lease.shard.model)
        postponed = sum(work.failure is not None and work.failure.is_transient for work in batch.works)
        copied = sum(work.same is not None for work in batch.works)
        with self._lock:
            self._images[kind] += len(batch.works) - postponed - copied
            self._seconds[kind] += now - max(self._worked_until[kind], lease.began_at)
            self._worked_until[kind] = now

    def report(self, engine: Engine, device: str, *, is_last: bool = False) -> None:
        """Report what was done on ``device`` since the last report, unless that was a moment ago and others follow.

        Raises:
            ServiceUnavailableError: the database is unavailable; the next report has it.
        """
        if not is_last and time.monotonic() - self._reported_at < REPORT_SECONDS:
            return
        self._reported_at = time.monotonic()
        with self._lock:
            images, seconds = dict(self._images), dict(self._seconds)
            self._images.clear()
            self._seconds.clear()
        try:
            with unit_of_work(engine) as session:
                paces.add(session, device, [paces.Worked(*kind, images[kind], seconds[kind]) for kind in images])
        except ServiceUnavailableError:
            with self._lock:
                for kind, count in images.items():
                    self._images[kind] += count
                    self._seconds[kind] += seconds[kind]
            raise

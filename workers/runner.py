"""Run one worker process until it is told to stop."""

from __future__ import annotations

import signal
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery.apps.worker import Worker as CeleryWorker
from celery.exceptions import SecurityWarning
from prometheus_client import start_http_server

from ramq.kit.errors import FatalError
from workers.app import Bells, make_app
from workers.lifecycle import Worker
from workers.tasks import register

if TYPE_CHECKING:
    import redis
    from sqlalchemy import Engine

    from storage.index.builder import IndexBuilder
    from storage.objects.base import S3Options
    from workers.fitness import Fitness
    from workers.model_holder import ModelHolder
    from workers.pipeline import PipelineOptions
    from workers.webhook import Webhook


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """What a worker is put together from; see ``workers.lifecycle.Worker``."""

    engine: Engine
    models: ModelHolder
    fitness: Fitness
    options: PipelineOptions
    builder: IndexBuilder
    broker: redis.Redis
    broker_url: str
    shard_size: int
    s3: S3Options
    queues: tuple[str, ...] | None
    metrics_address: str | None
    webhook: Webhook | None


def run(parts: WorkerParts) -> None:
    """Work until SIGTERM or SIGINT (finish the batch in hand, give the leases back) or a fatal error.

    Raises:
        FatalError: why this worker must not go on.
    """
    # Celery warns root because pickled messages could run code; only JSON is accepted here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    app = make_app(parts.broker_url, parts.models.served)
    worker = Worker(
        parts.engine,
        parts.models,
        parts.options,
        fitness=parts.fitness,
        builder=parts.builder,
        ring=Bells(app, parts.broker).ring,
        shard_size=parts.shard_size,
        s3=parts.s3,
        webhook=parts.webhook,
    )
    register(app, worker)
    if parts.metrics_address is not None:
        host, _, port = parts.metrics_address.rpartition(":")
        start_http_server(int(port), host.strip("[]"), registry=worker.metrics.registry)
    worker.start()
    celery = CeleryWorker(
        app=app,
        hostname=worker.id,
        queues=list(parts.queues) if parts.queues else None,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    try:
        celery.start()
    finally:
        # Celery has let go of the signals; a second one must not tear the leave-taking apart.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        worker.leave()
    if worker.fatal is not None:
        raise FatalError(str(worker.fatal)) from worker.fatal

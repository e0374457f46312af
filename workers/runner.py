"""Run one worker process until it has to stop."""

from __future__ import annotations

import signal
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from celery.apps.worker import Worker as CeleryWorker
from celery.exceptions import SecurityWarning
from prometheus_client import start_http_server

from storage.errors import FatalError
from workers.app import WakeUps, make_app
from workers.lifecycle import Worker
from workers.pipeline.retry import backoff_seconds
from workers.tasks import register

if TYPE_CHECKING:
    import redis
    from celery import Celery
    from sqlalchemy import Engine

    from storage.index.builder import IndexBuilder
    from storage.objects.base import S3Options
    from storage.results.nearness import Thresholds
    from workers.pipeline.model_holder import ModelHolder
    from workers.pipeline.steps import PipelineOptions
    from workers.webhook import Webhook


log = structlog.get_logger()

_LONG_SECONDS = 60.0
"""A connection that lasted this long counts as a good one."""


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The parts of a worker; see ``workers.lifecycle.Worker``."""

    engine: Engine
    models: ModelHolder
    options: PipelineOptions
    builder: IndexBuilder
    broker: redis.Redis
    broker_url: str
    shard_size: int
    s3: S3Options
    queues: tuple[str, ...] | None
    metrics_address: str | None
    webhook: Webhook | None
    near: Thresholds
    archive_allow: tuple[str, ...] = ()
    watch_keep_days: int = 0
    grace_seconds: float | None = None


def run(parts: WorkerParts) -> None:
    """Work until a fatal error, SIGTERM or SIGINT. On a signal, finish the batch in hand and release the leases.

    Raises:
        FatalError: why this worker has to stop.
    """
    # Celery warns root that pickled messages could run code. Only JSON is accepted here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    app = make_app(parts.broker_url, parts.models.names)
    worker = Worker(
        parts.engine,
        parts.models,
        parts.options,
        builder=parts.builder,
        wake=WakeUps(app, parts.broker).send,
        shard_size=parts.shard_size,
        s3=parts.s3,
        webhook=parts.webhook,
        near=parts.near,
        archive_allow=parts.archive_allow,
        watch_keep_days=parts.watch_keep_days,
        grace_seconds=parts.grace_seconds,
    )
    register(app, worker)
    if parts.metrics_address is not None:
        host, _, port = parts.metrics_address.rpartition(":")
        start_http_server(int(port), host.strip("[]"), registry=worker.metrics.registry)
    worker.start()
    try:
        _receive_wake_ups(app, worker, parts.queues)
    finally:
        # Celery no longer handles the signals. A second one must not interrupt the shutdown.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        worker.leave()
    if worker.fatal is not None:
        raise FatalError(str(worker.fatal)) from worker.fatal


def _receive_wake_ups(app: Celery, worker: Worker, queues: tuple[str, ...] | None) -> None:
    """Receive wake-ups until the worker has to stop.

    Celery waits for a Redis that is down. But it ends when Redis answers with an error (full, read-only, replicas
    missing). Then start it again until Redis recovers. Meanwhile the worker looks for work without wake-ups.
    """
    tries = 0
    while not worker.is_stopping:
        began = time.monotonic()
        celery = CeleryWorker(
            app=app,
            hostname=worker.id,
            queues=list(queues) if queues else None,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            quiet=True,
        )
        celery.start()
        if worker.is_stopping or not celery.exitcode:
            return
        tries = 0 if time.monotonic() - began > _LONG_SECONDS else tries + 1
        pause = backoff_seconds(tries, most=30.0)
        log.error("the broker answered with an error: a new connection is made", seconds=round(pause, 1))
        worker.wait(pause)

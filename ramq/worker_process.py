"""One worker process, created from the settings. Only ``ramq worker`` imports this file, because it imports torch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ramq.addresses import addresses
from ramq.broker import broker_client, check_broker
from ramq.logs import configure_structlog
from ramq.services.index import make_builder
from ramq.services.shadow import filling_shadow
from ramq.version import described
from storage import revision
from storage.database import make_engine
from storage.errors import UsageError
from storage.tables import RECOGNITION
from workers.messages import ANY_MODEL, MODEL_NAME
from workers.pipeline.model_holder import ModelHolder
from workers.pipeline.model_options import ModelOptions
from workers.pipeline.stage_holder import StageHolder
from workers.pipeline.steps import PipelineOptions
from workers.runner import WorkerParts, run
from workers.stages import StageOptions
from workers.webhook import Webhook

if TYPE_CHECKING:
    from ramq.settings import Settings


def run_worker(settings: Settings, *, model: str | None, queues: tuple[str, ...] | None) -> None:
    """Run a worker until it is told to stop.

    Args:
        settings: the effective settings.
        model: the only model to run, loaded at once. None: any model, loaded when a job needs it.
        queues: names of the queues to listen on. None: those of the model.

    Raises:
        ServiceUnavailableError: the database or the broker cannot be reached at the start.
        FatalError: this worker must not continue, for example because its device was lost.
    """
    configure_structlog(settings.log_level)
    if model is not None and not re.fullmatch(MODEL_NAME, model):
        raise UsageError(f"unknown model {model!r}; choose one of {', '.join(ANY_MODEL)}, or a trained one")
    with addresses(settings) as (database_url, broker_url):
        if broker_url is None:
            raise UsageError("settings: RAMQ_BROKER_URL is not set; set it, because a worker needs it for its wake-ups")
        check_broker(broker_url)
        engine = make_engine(database_url)
        if settings.is_embedded:
            revision.bring_up_to_date(engine)
        else:
            revision.require_current(engine)
        options = ModelOptions(
            settings.device,
            settings.models_path,
            settings.cache_path,
            settings.precision,
            compiled=settings.compiled,
            recorded=settings.recorded,
        )
        further = _further_stages(settings)
        models = ModelHolder(engine, options, model, further, recognises=RECOGNITION in settings.stages)
        if not models.runs:
            raise UsageError(f"the stages {', '.join(settings.stages)} are not installed here: see docs/reading.md")
        with filling_shadow(settings, engine):
            run(
                WorkerParts(
                    engine=engine,
                    models=models,
                    options=_pipeline_options(settings),
                    builder=make_builder(settings, engine),
                    broker=broker_client(broker_url),
                    broker_url=broker_url,
                    shard_size=settings.shard_size,
                    s3=settings.s3,
                    queues=queues,
                    metrics_address=settings.metrics_address,
                    webhook=_webhook(settings),
                    near=settings.near,
                    archive_allow=settings.archive_allow,
                    watch_keep_days=settings.watch_keep_days,
                    grace_seconds=settings.grace_seconds,
                )
            )
        engine.dispose()


def _further_stages(settings: Settings) -> StageHolder:
    options = StageOptions(
        settings.device,
        settings.models_path,
        settings.mask_text,
        settings.mask_pattern,
        settings.locate_precision,
        settings.look_precision,
        settings.cache_path,
    )
    return StageHolder(options, [stage for stage in settings.stages if stage != RECOGNITION])


def _pipeline_options(settings: Settings) -> PipelineOptions:
    return PipelineOptions(
        batch_size=settings.batch_size,
        fetch_threads=settings.fetch_threads,
        decoders=settings.decode_threads,
        lease_seconds=settings.lease_seconds,
        max_object_bytes=settings.max_object_bytes,
        max_pixels=settings.max_pixels,
        keep_place=settings.keep_place,
        reads_truncated=settings.truncated == "read",
        most_pages=settings.pages_most,
        shard_size=settings.shard_size,
    )


def _webhook(settings: Settings) -> Webhook | None:
    if settings.webhook_url is None or settings.webhook_secret is None:
        return None
    return Webhook(settings.webhook_url, settings.webhook_secret, f"ramq {described()}")

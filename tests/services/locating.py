"""A worker in this process that recognises at no cost, and locates with tiny networks of random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from ram_core.localization.tiny import write_tiny_model
from storage.database import unit_of_work
from storage.results import regions
from storage.search.views import SearchQuery
from tests.services.null_worker import load_null
from tests.services.recognised import make_worker
from workers.pipeline import model_holder
from workers.pipeline.model_holder import ModelHolder
from workers.pipeline.model_options import ModelOptions
from workers.pipeline.stage_holder import StageHolder
from workers.stages import StageOptions

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from workers.lifecycle import Worker

DETECTOR, SEGMENTER = "grounding-dino-tiny", "sam-vit-base"


def locating_worker(
    services: Services, monkeypatch: pytest.MonkeyPatch, folder: Path | None = None, **options: str
) -> Worker:
    """Make a worker. The caller ends it with ``leave``.

    Args:
        services: what it works on.
        monkeypatch: replaces the loader of recognisers.
        folder: of models; None: that of the services, in which weights are written.
        options: of ``StageOptions``.
    """
    monkeypatch.setattr(model_holder, "load_model", load_null)
    monkeypatch.setattr(ModelOptions, "arguments", property(lambda _: {}))
    if folder is None:
        folder = services.settings.models_path
        for name in (DETECTOR, SEGMENTER):
            write_tiny_model(name, folder)
    further = StageHolder(StageOptions("cpu", folder, **options), ["locate"])  # type: ignore[arg-type]  # texts only
    return make_worker(
        services, ModelHolder(services.engine, ModelOptions("cpu", folder, services.settings.cache_path), None, further)
    )


def work(services: Services, worker: Worker, job: JobView) -> JobView:
    """Let a worker work until a job is over."""
    while not services.jobs.get(job.id).is_over:
        worker._list()
        worker.work()
    return services.jobs.get(job.id)


def turn(worker: Worker) -> None:
    """Let a worker list, do what it can, and tell about itself, once."""
    worker._list()
    worker.work()
    worker._beat()


def located(services: Services) -> list[regions.RegionsView]:
    """What was found in each image that was located."""
    with unit_of_work(services.engine) as session:
        ids = list(session.scalars(text("SELECT id FROM image ORDER BY id")))
        return list(regions.views(session, ids).values())


def start(services: Services, **more: Any) -> JobView:
    """Ask for the only archive to be located."""
    [job] = services.stages.start("locate", SearchQuery(), **more)
    return job

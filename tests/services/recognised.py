"""A database in which a real worker has recognised real photographs, to be copied for each test."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from ramq.demo_photos import installed_photographs
from ramq.settings import Settings
from ramq.wiring import Services
from storage.database import make_engine
from storage.index.builder import IndexBuilder
from storage.index.file_storage import open_storage
from tests.services.missing import missing
from workers.lifecycle import Worker
from workers.pipeline.model_holder import ModelHolder
from workers.pipeline.model_options import ModelOptions
from workers.pipeline.steps import PipelineOptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from storage.ledger.views import JobView

PHOTOGRAPHS = 14
CAT = "Egyptian cat"
"""A tag that one of the photographs has, `chelsea.png`."""
HOSTILE_KEY = "odd/<script>alert(1)<script>\n\u202e'\"gpj.jpg"


def make_archive(folder: Path) -> None:
    """Fills ``folder`` with photographs, one of them under a hostile name, and two files that are no pictures."""
    photographs = [path for path in installed_photographs() if path.suffix != ".npy"][-PHOTOGRAPHS:]
    if len(photographs) < PHOTOGRAPHS:
        missing(f"{len(photographs)} photographs are installed, {PHOTOGRAPHS} needed: install the extra `dev`")
    for photograph in photographs:
        shutil.copy(photograph, folder / photograph.name)
    odd = folder / HOSTILE_KEY
    odd.parent.mkdir()
    shutil.copy(photographs[0], odd)
    (folder / "notes.jpg").write_text("no picture at all")
    (folder / "half.png").write_bytes(photographs[0].read_bytes()[:5000])


def settings_for(data_dir: Path, **changes: object) -> Settings:
    """Settings that no environment reaches."""
    return Settings(data_dir=data_dir, **changes)  # type: ignore[arg-type]  # checked by pydantic


def recognise(services: Services, source: str) -> JobView:
    """Runs a job over ``source`` to its end with a worker in this process."""
    job = services.jobs.create(source)
    worker = make_worker(services)
    while not services.jobs.get(job.id).is_over:
        worker.work()
    worker.leave()
    return services.jobs.get(job.id)


def make_worker(services: Services, models: ModelHolder | None = None) -> Worker:
    """A worker that hears no wake-ups: the test calls ``work``. By default it recognises with any model."""
    settings = services.settings
    if models is None:
        where = ModelOptions("cpu", settings.models_path, settings.cache_path, settings.precision)
        models = ModelHolder(services.engine, where, None)
    options = PipelineOptions(
        batch_size=8,
        fetch_threads=4,
        decoders=2,
        lease_seconds=settings.lease_seconds,
        max_object_bytes=settings.max_object_bytes,
        max_pixels=settings.max_pixels,
        keep_place=settings.keep_place,
        reads_truncated=settings.truncated == "read",
    )
    worker = Worker(
        services.engine,
        models,
        options,
        builder=IndexBuilder(services.engine, open_storage(settings.index_location), settings.cache_path / "index"),
        wake=lambda _model, _wanted: None,
        shard_size=settings.shard_size,
        s3=settings.s3,
        near=settings.near,
    )
    planner, begin = worker._planner, worker._planner.begin
    # On a busy machine a step of a listing may end before the listing does, and no thread goes on with it here.
    planner.begin = lambda should_stop: begin(should_stop) or planner.go_on(should_stop)  # type: ignore[method-assign]
    return worker


def run(services: Services, jobs: Sequence[JobView]) -> list[JobView]:
    """Work until these jobs have ended. Return them as they are then."""
    worker = make_worker(services)
    for job in jobs:
        while not services.jobs.get(job.id).is_over:
            worker.work()
    worker.leave()
    return [services.jobs.get(job.id) for job in jobs]


def make_recognised_database(url: str, data_dir: Path, archive: Path) -> JobView:
    """Recognises ``archive`` into the database at ``url`` and lets go of it, so that it can be copied."""
    engine = make_engine(url)
    try:
        return recognise(Services(settings_for(data_dir), engine, None, is_reachable=False), str(archive))
    finally:
        engine.dispose()

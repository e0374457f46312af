"""Towers of random weights, and a worker that makes the vectors of any space."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ram_core.spaces.tiny import write_tiny_tower
from ramq.services.search import SearchClient
from storage.results.spaces import SPACES
from storage.search.views import SearchQuery
from tests.services.recognised import make_worker
from workers.pipeline.model_holder import ModelHolder
from workers.pipeline.model_options import ModelOptions
from workers.pipeline.stage_holder import StageHolder
from workers.stages import StageOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from workers.lifecycle import Worker

FURTHER = {"siglip": "siglip2-base", "clip": "clip-vit-base-patch32-laion2b", "dino": "dinov2-base"}


def install_towers(services: Services) -> None:
    """Writes tiny towers where ``ramq models pull`` would put real ones."""
    for tower in FURTHER.values():
        write_tiny_tower(tower, services.settings.models_path)


def space_models(services: Services, folder: Path | None = None) -> ModelHolder:
    """Models of a worker whose checkpoints are in a folder; by default, where those of the services are."""
    folder = folder or services.settings.models_path
    options = ModelOptions("cpu", folder, services.settings.cache_path)
    return ModelHolder(services.engine, options, None, StageHolder(StageOptions("cpu", folder), SPACES))


@contextmanager
def space_worker(services: Services) -> Iterator[Worker]:
    """A worker that hears no wake-ups and does all spaces."""
    made = make_worker(services, space_models(services))
    yield made
    made.leave()


def make_space(
    services: Services, worker: Worker, space: str, model: str | None = None, query: SearchQuery | None = None
) -> JobView:
    """Makes the vectors of a space for all images, or for the hits of a search."""
    [job] = services.stages.start(space, query or SearchQuery(), model=model)
    while not (now := services.jobs.get(job.id)).is_over:
        worker.work()
    assert now.failed == 0
    return now


def asking_with(services: Services, *spaces: str) -> SearchClient:
    """The searches of a server on which texts are compared in other spaces."""
    return SearchClient(services.search._readers, services.search._models, spaces)

"""Images with regions whose vectors a real worker makes, at no cost, and what each of them must be.

What a crop's vector must be follows from its pixels, so each test computes it from the file.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text

from ram_core.transforms import ReadingTransform
from ramq.services.index import make_builder
from storage.database import unit_of_work
from storage.results import generations, regions
from storage.results.generations import StageSpec
from storage.results.packing import unpack_vectors
from storage.results.records import Provenance
from storage.results.region_views import FoundRegion, RegionsRow
from storage.search.views import SearchQuery
from tests.services.null_worker import VECTOR_SIZE, NullModel, expected, load_null, null_crops
from tests.services.recognised import make_worker
from workers.pipeline import model_holder
from workers.pipeline.model_holder import ModelHolder
from workers.pipeline.model_options import ModelOptions
from workers.pipeline.stage_holder import StageHolder
from workers.stages import STAGES, StageOptions
from workers.stages.crops import SIDE, cut

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from storage.results.region_views import RegionsView
    from workers.lifecycle import Worker

COUNT = 4
BOXES = {"dog": (0.1, 0.2, 0.6, 0.9), "ball": (0.5, 0.5, 0.9, 0.95), "speck": (0.9, 0.05, 0.905, 0.055)}


def write_pictures(folder: Path) -> Path:
    """Write pictures of noise: every region of them is another one."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        Image.fromarray(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


@contextmanager
def crop_worker(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """Give a worker that recognises at no cost, also regions, and locates with the tiny networks that a test writes."""
    monkeypatch.setattr(model_holder, "load_model", load_null)
    monkeypatch.setitem(STAGES, "crops", null_crops())
    monkeypatch.setattr(ModelOptions, "arguments", property(lambda _: {}))
    with stages_worker(services) as worker:
        yield worker


@contextmanager
def stages_worker(services: Services) -> Iterator[Worker]:
    """Give a worker that recognises, locates and crops."""
    folder = services.settings.models_path
    further = StageHolder(StageOptions("cpu", folder), ["locate", "crops"])
    options = ModelOptions("cpu", folder, services.settings.cache_path)
    worker = make_worker(services, ModelHolder(services.engine, options, None, further))
    yield worker
    worker.leave()


def locate_all(services: Services) -> None:
    """Write regions of each image but the last, which has none."""
    *some, last = image_ids(services)
    for image_id in some:
        locate(services, image_id, *BOXES)
    locate(services, last)


def locate(services: Services, image_id: int, *tags: str) -> None:
    """Write regions as a worker does that found these tags."""
    found = [FoundRegion(tag, 0.9, BOXES.get(tag, (0.3, 0.3, 0.7, 0.6))) for tag in tags]
    with unit_of_work(services.engine) as session:
        number = generations.ensure_of_stage(session, StageSpec("locate", "made up", "made up", "", ""))
        version = session.scalar(text("SELECT version FROM image WHERE id = :id"), {"id": image_id})
        regions.write_regions(session, [RegionsRow(image_id, version, found, is_cut=False)], Provenance(1, number, ""))


def work(services: Services, worker: Worker, job: JobView) -> JobView:
    while not services.jobs.get(job.id).is_over:
        worker._list()
        worker.work()
    return services.jobs.get(job.id)


def start(services: Services, stage: str = "crops", **more: Any) -> JobView:
    [job] = services.stages.start(stage, SearchQuery(), **more)
    return job


def image_ids(services: Services) -> list[int]:
    with unit_of_work(services.engine) as session:
        return list(session.scalars(text("SELECT id FROM image ORDER BY id")))


def views(services: Services) -> dict[int, RegionsView]:
    return services.regions.views(image_ids(services))


def stored(services: Services) -> list[Any]:
    with unit_of_work(services.engine) as session:
        return list(session.execute(text("SELECT * FROM crop ORDER BY image_id, number")).all())


def generation(services: Services) -> int:
    [found] = [one.id for one in services.stages.generations() if one.stage == "crops"]
    return found


def opened(services: Services, image_id: int) -> np.ndarray:
    """The picture from which regions are cut."""
    view = services.images.get(image_id)
    with Image.open(view.uri.removeprefix("file://")) as image:
        return ReadingTransform(SIDE)(image)


def check_crops(services: Services) -> None:
    """Every region of every image has a row that follows from its pixels, and there are no others."""
    rows = {(row.image_id, row.number): row for row in stored(services)}
    seen = [(image_id, region) for image_id, view in views(services).items() for region in view.regions]
    assert set(rows) == {(image_id, region.number) for image_id, region in seen}
    model = NullModel()
    for image_id, region in seen:
        wanted = expected(model.preprocessing(Image.fromarray(cut(opened(services, image_id), region.box))))
        row = rows[image_id, region.number]
        assert row.tag == region.tag
        assert unpack_vectors(row.v, VECTOR_SIZE)[0] == pytest.approx(wanted.vector, abs=1e-3)
        assert sorted(row.tags) == sorted(f"tag {number}" for number in wanted.tag_ids)
        assert row.scores == sorted(row.scores, reverse=True)


def check_index(services: Services) -> None:
    builder = make_builder(services.settings, services.engine)
    assert builder.verify(generation(services)) == []


def a_region(services: Services) -> tuple[int, int]:
    """An image and the number of one of its regions."""
    return next((image_id, view.regions[-1].number) for image_id, view in views(services).items() if view.regions)

"""The stage ``locate`` from a request to stored regions: a real worker, the real networks with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.errors import UsageError
from tests.services.checker import fill
from tests.services.locating import DETECTOR, SEGMENTER, located, locating_worker, start, work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

COUNT = 6
MASKED = f"{DETECTOR}+{SEGMENTER}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    fill(folder, COUNT)
    return folder


@pytest.fixture
def worker(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    worker = locating_worker(services, monkeypatch)
    yield worker
    worker.leave()


def test_tags_that_images_have_are_looked_for_and_those_asked_for_replace_them(
    services: Services, worker: Worker, source: Path
) -> None:
    work(services, worker, services.jobs.create(str(source)))
    job = work(services, worker, start(services))
    assert (job.stage, job.model, job.state, job.done, job.failed) == (
        "locate",
        "grounding-dino-tiny",
        "done",
        COUNT,
        0,
    )
    with unit_of_work(services.engine) as session:
        rows = session.execute(text("SELECT image_id, tags FROM record")).all()
    own = {row.image_id: {f"tag {number}" for number in row.tags} for row in rows}
    found = located(services)
    assert len(found) == COUNT
    assert any(view.regions for view in found)
    assert all({region.tag for region in view.regions} <= own[view.image_id] for view in found)
    again = work(services, worker, start(services))
    assert (again.done, again.skipped) == (0, COUNT)
    asked = work(services, worker, start(services, options={"tags": ["ball", "dog"]}))
    assert (asked.done, asked.options) == (COUNT, {"tags": ["ball", "dog"]})
    assert {region.tag for view in located(services) for region in view.regions} <= {"ball", "dog"}


def test_masks_are_made_by_a_segmenter_which_is_another_generation(
    services: Services, worker: Worker, source: Path
) -> None:
    work(services, worker, services.jobs.create(str(source)))
    job = work(services, worker, start(services, model=MASKED, options={"tags": ["dog"]}))
    assert (job.state, job.done, job.model) == ("done", COUNT, MASKED)
    [generation] = services.stages.generations()
    assert (generation.stage, generation.model, generation.images) == ("locate", MASKED, COUNT)
    found = [region for view in located(services) for region in view.regions]
    assert found
    assert all(region.mask is not None and 0 <= (region.mask_quality or 0) <= 1 for region in found)
    with pytest.raises(UsageError, match="needs what recognition finds: run `ramq locate` afterwards"):
        services.jobs.create(str(source), stages=["locate"])
    with pytest.raises(UsageError, match="unknown model 'yolo' of locate"):
        start(services, model="yolo")

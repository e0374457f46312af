"""The stage ``locate`` from a request to stored regions: a real worker, the real networks with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ramq.services.stages import Estimate
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.results import assigned
from storage.search.views import SearchQuery
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


def test_order_case_and_spaces_of_the_tags_do_not_make_another_job(
    services: Services, worker: Worker, source: Path
) -> None:
    work(services, worker, services.jobs.create(str(source)))
    first = work(services, worker, start(services, options={"tags": ["Red  Ball", "dog", "DOG", " "]}))
    assert (first.done, first.options) == (COUNT, {"tags": ["dog", "red ball"]})
    again = work(services, worker, start(services, options={"tags": ["Dog", "red ball"]}))
    assert (again.done, again.skipped) == (0, COUNT)
    other = work(services, worker, start(services, options={"tags": ["dog"]}))
    assert (other.done, other.skipped) == (COUNT, 0)
    assert {region.tag for view in located(services) for region in view.regions} <= {"dog"}


def test_tags_that_are_no_things_are_looked_for_only_by_name(services: Services, worker: Worker, source: Path) -> None:
    work(services, worker, services.jobs.create(str(source)))
    with unit_of_work(services.engine) as session:
        rows = session.execute(text("SELECT image_id, tags FROM record ORDER BY image_id")).all()
        ids = [row.image_id for row in rows]
        own = {image_id: set(tags) for image_id, tags in assigned.names(session, ids).items()}
    out, here = sorted(own[ids[0]])[:2]
    services.policies.put_all([out.upper()], "no_thing")
    services.policies.put(here, "no_thing", str(source))
    with unit_of_work(services.engine) as session:
        left = {image_id: set(tags) for image_id, tags in assigned.names(session, ids).items()}
    assert left == {image_id: tags - {out, here} for image_id, tags in own.items()}
    work(services, worker, start(services))
    assert {region.tag for view in located(services) for region in view.regions}.isdisjoint({out, here})
    named = work(services, worker, start(services, options={"tags": [out]}))
    assert (named.done, named.options) == (COUNT, {"tags": [out]})
    services.policies.clear_all([out], kind="no_thing")
    with unit_of_work(services.engine) as session:
        again = {image_id: set(tags) for image_id, tags in assigned.names(session, ids).items()}
    assert again == {image_id: tags - {here} for image_id, tags in own.items()}


def test_what_a_job_costs_is_known_beforehand(services: Services, worker: Worker, source: Path) -> None:
    work(services, worker, services.jobs.create(str(source)))
    with unit_of_work(services.engine) as session:
        ids = session.scalars(text("SELECT id FROM image ORDER BY id")).all()
        key = session.scalar(text("SELECT key FROM image WHERE id = :id"), {"id": ids[0]})
        own = assigned.names(session, ids)
    mean = sum(map(len, own.values())) / COUNT
    before = services.stages.estimate("locate", SearchQuery())
    assert before == Estimate(
        "locate", "grounding-dino-tiny", COUNT, 0, mean, images_per_second=None, seconds=None, is_alike=False
    )
    assert not [job for job in services.jobs.list().items if job.stage == "locate"]
    done = work(services, worker, start(services, options={"tags": ["dog"]}))
    other = services.stages.estimate("locate", SearchQuery(), options={"tags": ["dog", "ball"]})
    assert (other.images, other.done, other.tags, other.is_alike) == (COUNT, 0, 2, False)
    assert other.images_per_second == pytest.approx(done.images_per_second)
    assert other.seconds == pytest.approx(COUNT / other.images_per_second)
    same = services.stages.estimate("locate", SearchQuery(prefix=key), options={"tags": ["DOG"]})
    assert (same.images, same.done, same.seconds, same.is_alike) == (1, 1, 0, True)
    having = [image_id for image_id, names in own.items() if own[ids[0]][0] in names]
    found = services.stages.estimate("locate", SearchQuery(tags=(own[ids[0]][0],)))
    assert (found.images, found.done) == (len(having), 0)
    with unit_of_work(services.engine) as session:
        session.execute(text("UPDATE image SET version = 'newer' WHERE id = :id"), {"id": ids[0]})
    changed = services.stages.estimate("locate", SearchQuery(), options={"tags": ["dog"]})
    assert (changed.images, changed.done) == (COUNT, COUNT - 1)
    assert services.stages.estimate("text", SearchQuery()).tags is None
    with pytest.raises(UsageError, match="no recorded image matches"):
        services.stages.estimate("locate", SearchQuery(prefix="nowhere"))


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

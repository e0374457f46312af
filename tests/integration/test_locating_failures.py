"""What can go wrong while tags are located, through a real worker: nothing is lost, and the reason is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from sqlalchemy import text

from ram_core.localization import grounding_dino
from ram_core.localization.grounding_dino import GroundingDino
from ramq.services import stages
from storage.database import unit_of_work
from tests.services.checker import fill
from tests.services.locating import located, locating_worker, start, turn, work
from workers.pipeline import fitness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

COUNT = 6


@pytest.fixture
def worker(services: Services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Worker]:
    """A worker that has recognised the archive."""
    fill(tmp_path / "photos", COUNT)
    worker = locating_worker(services, monkeypatch)
    work(services, worker, services.jobs.create(str(tmp_path / "photos")))
    yield worker
    worker.leave()


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was unfit tries again at once."""
    monkeypatch.setattr(fitness, "backoff_seconds", lambda _: 0.0)


def failures(services: Services) -> int:
    with unit_of_work(services.engine) as session:
        return session.scalar(text("SELECT count(*) FROM failure")) or 0


@pytest.mark.parametrize(("tag", "reason"), [("very " * 260 + "long", "has 261 tokens"), ("?.", "has no words")])
def test_a_tag_that_cannot_be_looked_for_ends_the_job_with_the_reason_and_no_other(
    services: Services, worker: Worker, monkeypatch: pytest.MonkeyPatch, tag: str, reason: str
) -> None:
    monkeypatch.setattr(stages, "MAX_CHARACTERS", 2_000)  # the tags of an image may be longer than 200
    job = work(services, worker, start(services, options={"tags": ["dog", tag]}))
    assert job.state == "failed"
    assert job.note is not None
    assert f"grounding-dino-tiny cannot look for the tag '{tag[:50]}" in job.note
    assert reason in job.note
    assert len(job.note) < 300
    assert located(services) == []
    assert worker.fitness.reasons() == []
    again = work(services, worker, start(services, options={"tags": ["dog"]}))
    assert (again.state, again.done, again.failed) == ("done", COUNT, 0)


def test_more_tags_than_a_prompt_holds_and_more_boxes_than_are_kept(
    services: Services, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = [f"{look} {thing}" for look in ("red", "big", "old") for thing in ("dog", "cat", "car", "cup", "hat")]
    tags += [f"{tag} number {number}" for tag in tags for number in range(9)]
    assert len(tags) == 150
    monkeypatch.setattr(grounding_dino, "THRESHOLD", 0.0)
    job = work(services, worker, start(services, options={"tags": tags}))
    assert (job.state, job.done) == ("done", COUNT)
    found = located(services)
    assert len(found) == COUNT
    assert all(view.is_cut and len(view.regions) == 300 for view in found)


def test_a_batch_that_does_not_fit_into_memory_is_halved_and_no_image_fails(
    services: Services, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    outputs = GroundingDino._outputs

    def poor(self: GroundingDino, pairs: Any, *rest: Any) -> Any:
        sizes.append(len(pairs))
        if len(pairs) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return outputs(self, pairs, *rest)

    monkeypatch.setattr(GroundingDino, "_outputs", poor)
    job = work(services, worker, start(services, options={"tags": ["dog"]}))
    assert (job.state, job.done, job.failed) == ("done", COUNT, 0)
    assert len([size for size in sizes if size > 1]) <= 2  # 4, then 2: what did not fit is not tried again
    assert sizes.count(1) == COUNT
    assert worker.fitness.reasons() == []


@pytest.mark.usefixtures("no_pause")
def test_a_worker_with_too_little_memory_for_one_image_leaves_the_job_to_others(
    services: Services, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poor(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    job = start(services, options={"tags": ["dog"]})
    with monkeypatch.context() as patched:
        patched.setattr(GroundingDino, "_outputs", poor)
        turn(worker)
        view = services.jobs.get(job.id)
        assert (view.state, view.done, view.failed) == ("running", 0, 0)
        assert view.note is not None
        assert "not enough memory for grounding-dino-tiny" in view.note
    job = work(services, worker, job)
    assert (job.state, job.done, job.failed, failures(services)) == ("done", COUNT, 0, 0)
    assert worker.fitness.reasons() == []


@pytest.mark.usefixtures("no_pause")
def test_values_that_are_not_finite_are_the_worker_s_trouble_and_nothing_is_stored(
    services: Services, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start(services, options={"tags": ["dog"]})
    detector = worker._models.stages.get("locate", job.model)._locator._detector  # type: ignore[attr-defined]
    weight = detector._network.bbox_embed[-1].layers[-1].weight
    kept = weight.clone()
    weight.fill_(float("nan"))
    turn(worker)
    view = services.jobs.get(job.id)
    assert (view.state, view.done, view.failed) == ("running", 0, 0)
    assert view.note is not None
    assert "the detector gives values that are not finite" in view.note
    assert located(services) == []
    weight.copy_(kept)
    job = work(services, worker, job)
    assert (job.state, job.done, job.failed, failures(services)) == ("done", COUNT, 0, 0)


def test_a_job_is_paused_resumed_and_cancelled(services: Services, worker: Worker) -> None:
    job = start(services, options={"tags": ["dog"]})
    services.jobs.pause(job.id)
    turn(worker)
    assert (services.jobs.get(job.id).state, located(services)) == ("paused", [])
    services.jobs.resume(job.id)
    assert work(services, worker, job).done == COUNT
    other = start(services, options={"tags": ["cat"]})
    worker._list()
    services.jobs.cancel(other.id)
    turn(worker)
    assert services.jobs.get(other.id).state == "cancelled"
    assert {region.tag for view in located(services) for region in view.regions} <= {"dog"}


def test_a_worker_without_weights_leaves_the_job_to_one_that_has_them(
    services: Services, worker: Worker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    poor = locating_worker(services, monkeypatch, tmp_path / "empty")
    job = start(services, options={"tags": ["dog"]})
    turn(poor)
    view = services.jobs.get(job.id)
    assert (view.state, view.done, view.failed) == ("running", 0, 0)
    assert view.note is not None
    assert "ramq models pull grounding-dino-tiny" in view.note
    assert work(services, worker, job).done == COUNT
    poor.leave()


def test_results_in_another_number_format_are_another_generation(
    services: Services, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(services, worker, start(services, options={"tags": ["dog"]}))
    rounded = locating_worker(services, monkeypatch, services.settings.models_path, locate_precision="bfloat16")
    job = start(services, options={"tags": ["dog"]})
    assert work(services, rounded, job).done == COUNT
    first, second = services.stages.generations()
    assert "bfloat16" not in first.preprocessing
    assert "bfloat16" in second.preprocessing
    rounded.leave()

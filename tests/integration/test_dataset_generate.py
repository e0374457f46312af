"""The step ``generate``: recognition of named pictures, and what it adds to a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from storage.database import unit_of_work
from storage.datasets import versions
from storage.datasets.labels import Label
from storage.errors import UsageError
from tests import crop_archive
from tests.crop_archive import image_ids
from tests.engine_archive import NAME, finish, stored_items, stored_labels, turn, until, view, write_version
from tests.services.null_worker import NullModel, expected
from workers.pipeline.captioner import SharedCaptioner

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from storage.datasets.versions import VersionView
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

SENTENCE = "a photo of a tag 60"


@pytest.fixture
def recorded(services: Services, crop_worker: Worker, pictures: Path) -> Services:
    """Services with a few pictures of noise, which are recognised."""
    crop_archive.work(services, crop_worker, services.jobs.create(str(pictures)))
    return services


def assigned(services: Services, image_id: int) -> dict[int, float]:
    """The scores of the tags that the model assigns to a picture."""
    path = services.images.get(image_id).uri.removeprefix("file://")
    with Image.open(path) as image:
        found = expected(NullModel.preprocessing(image))
    return dict(zip(found.tag_ids.tolist(), found.scores.tolist(), strict=True))


def steer(services: Services, version: VersionView, to: versions.State, *allowed: versions.State) -> None:
    with unit_of_work(services.engine) as session:
        versions.steer(session, version.id, to=to, allowed=allowed)


def begun(services: Services, worker: Worker, **asked: str) -> VersionView:
    """A step whose jobs are begun, but not listed."""
    step = services.dataset_steps.generate(NAME, **asked)
    worker._build_datasets()
    return view(services, step)


def test_what_is_recorded_is_added_without_a_job(recorded: Services, crop_worker: Worker) -> None:
    first, second, *_ = ids = image_ids(recorded)
    known = next(iter(assigned(recorded, first)))
    other = next(tag for tag in range(64) if tag not in assigned(recorded, first))
    parent = write_version(
        recorded,
        [
            Label(first, known, ["given"]),
            Label(first, other, ["parsed"]),
            Label(second, other, ["given"], "outlier", 0.5, {"distance": 2.0}),
        ],
    )
    made = finish(recorded, crop_worker, recorded.dataset_steps.generate(NAME))
    assert (made.state, made.number, made.parent, made.job_ids) == ("done", 2, 1, [])
    found = stored_labels(recorded, made)
    assert found[first, known].origins == ["given", "generated"]
    assert found[first, other] == stored_labels(recorded, parent)[first, other], "it is not the model's, and stays"
    assert found[second, other].reason == "outlier" or other in assigned(recorded, second)
    generated = {(i, tag): score for i in ids for tag, score in assigned(recorded, i).items()}
    assert {key for key, label in found.items() if "generated" in label.origins} == set(generated)
    fresh = next(key for key in generated if key not in stored_labels(recorded, parent))
    assert found[fresh].certainty == pytest.approx(generated[fresh], abs=1e-4)
    counts = made.counts["generated"]
    assert (counts["pictures"], counts["recognised"], counts["failed"]) == (len(ids), len(ids), {})
    assert counts["labels_before"] + sum(counts["added"].values()) == len(found)
    assert stored_items(recorded, made) == stored_items(recorded, parent)


def test_pictures_without_a_record_are_recognised_by_a_job_that_names_only_them(
    recorded: Services, crop_worker: Worker, pictures: Path
) -> None:
    ids = image_ids(recorded)
    parent = write_version(recorded, [])
    broken, changed = (pictures / recorded.images.get(image_id).key for image_id in ids[:2])
    broken.write_bytes(b"no picture at all")
    Image.fromarray(np.full((40, 40, 3), 7, dtype=np.uint8)).save(changed)
    (pictures / "new.png").write_bytes(changed.read_bytes())
    listing = recorded.jobs.create(str(pictures))
    crop_worker._list()  # the changed bytes are listed, and the job is then given up
    recorded.jobs.cancel(listing.id)
    step = begun(recorded, crop_worker)
    assert step.note == f"waits for job {step.job_ids[0]} (recognition): not listed yet"
    made = finish(recorded, crop_worker, step)
    [job] = [recorded.jobs.get(job_id) for job_id in made.job_ids]
    assert (job.listed, job.done, job.failed, job.skipped) == (2, 1, 1, 0)
    assert job.query == f"data set {NAME}, version 2"
    report = recorded.jobs.report(job.id)
    assert (report.listed, report.done, report.failed, report.is_final) == (2, 1, 1, True)
    assert len(list(recorded.jobs.report_lines(job.id))) == 2
    counts = made.counts["generated"]
    # Other pictures are at the keys of both now. What was made of them, and the failure, is theirs.
    assert counts["failed"] == {"no_record": 1}
    assert (counts["recognised"], counts["changed"]) == (len(ids) - 1, 0)
    assert counts["failed_images"] == {"no_record": [ids[1]]}
    found = stored_labels(recorded, made)
    assert not any(image_id == ids[1] for image_id, _ in found), "of other bytes, nothing is added"
    assert stored_items(recorded, made) == stored_items(recorded, parent)
    again = finish(recorded, crop_worker, recorded.dataset_steps.generate(NAME))
    assert again.job_ids == [], "what failed under the same bytes is not tried again"
    assert again.sha256 == made.sha256


def test_a_generated_caption_and_the_tags_that_it_names(
    recorded: Services, crop_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        SharedCaptioner, "sentences", lambda _self, _model, _how, pixels, _tags: [SENTENCE] * len(pixels)
    )
    first, second, third, *_ = ids = image_ids(recorded)
    write_version(recorded, [Label(third, 60, ["given"], "removed")], {second: [SENTENCE]})
    recorded.corrections.tag([first], remove=["tag 60"])
    made = finish(recorded, crop_worker, recorded.dataset_steps.generate(NAME, model="ram", captioner="tag2text"))
    assert [recorded.jobs.get(job_id).done for job_id in made.job_ids] == [len(ids)], "none had such a caption"
    found, pictures = stored_labels(recorded, made), stored_items(recorded, made)
    assert (first, 60) not in found, "a person removed it"
    assert pictures[first].captions == []
    assert found[second, 60].origins[0] == "parsed"
    assert (pictures[second].captions, pictures[second].origins) == ([SENTENCE], ["given"])
    assert found[third, 60].reason == "removed"
    assert pictures[ids[-1]].captions == [SENTENCE]
    assert pictures[ids[-1]].origins == ["generated"]
    counts = made.counts["generated"]
    assert (counts["captions"], counts["captions_that_name_removed_tags"]) == (1, 2)
    assert made.counts["captions"] == {"generated": 1, "given": 1}


def test_a_cancelled_job_fails_the_step_and_another_one_begins_when_it_is_resumed(
    recorded: Services, crop_worker: Worker
) -> None:
    write_version(recorded, [])
    step = begun(recorded, crop_worker, model="ram")
    [job_id] = step.job_ids
    recorded.jobs.cancel(job_id)
    failed = until(recorded, crop_worker, step, lambda seen: seen.state != "running")
    assert (failed.state, failed.note) == (
        "failed",
        f"job {job_id} (recognition) was cancelled; resume the step to begin it again",
    )
    steer(recorded, step, "running", "failed")
    made = finish(recorded, crop_worker, step)
    assert (made.state, len(made.job_ids)) == ("done", 1)
    assert made.job_ids != [job_id]


def test_pausing_a_step_pauses_its_jobs(recorded: Services, crop_worker: Worker) -> None:
    write_version(recorded, [])
    step = begun(recorded, crop_worker, model="ram")
    steer(recorded, step, "paused", "running")
    turn(crop_worker)
    assert (view(recorded, step).state, recorded.jobs.get(step.job_ids[0]).state) == ("paused", "paused")
    steer(recorded, step, "running", "paused")
    assert finish(recorded, crop_worker, step).state == "done"
    assert recorded.jobs.get(step.job_ids[0]).state == "done"


def test_what_cannot_be_asked_for_is_refused(recorded: Services) -> None:
    write_version(recorded, [])
    with pytest.raises(UsageError, match="unknown model 'yolo'"):
        recorded.dataset_steps.generate(NAME, model="yolo")
    with pytest.raises(UsageError, match="sentences that are composed from tags would add nothing"):
        recorded.dataset_steps.generate(NAME, captioner="template")
    with pytest.raises(UsageError, match="works only with ram and ram_plus"):
        recorded.dataset_steps.generate(NAME, captioner="tag2text")

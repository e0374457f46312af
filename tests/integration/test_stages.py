"""Jobs with a further stage: both stages are complete, each by its own counts, and each image is fetched once."""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from sqlalchemy import text

from ram_core.transforms import SquashTransform
from storage.database import unit_of_work
from storage.errors import ConflictError, UsageError
from storage.ledger import jobs
from storage.objects.folder import FolderStore
from storage.results import generations
from storage.search.views import SearchQuery
from tests.services.checker import fill, picture
from tests.services.null_reader import NullReader, load
from tests.services.null_worker import load_null
from tests.services.recognised import make_worker
from workers.pipeline import model_holder
from workers.pipeline.decoders import Decoders
from workers.pipeline.model_holder import ModelHolder
from workers.pipeline.model_options import ModelOptions
from workers.pipeline.stage_holder import StageHolder
from workers.stages import STAGES, StageOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

COUNT = 40


@pytest.fixture
def null_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that cost nothing, in this process."""
    monkeypatch.setattr(model_holder, "load_model", load_null)
    monkeypatch.setattr(ModelOptions, "arguments", property(lambda _: {}))
    monkeypatch.setitem(STAGES, "text", replace(STAGES["text"], is_installed=lambda: True, load=load))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    fill(folder, COUNT)
    return folder


@pytest.fixture
def workers(services: Services, null_models: None) -> Iterator[dict[str, Worker]]:
    """A worker of each kind."""
    kinds = {"both": (True, ["text"]), "recognises": (True, []), "reads": (False, ["text"])}
    made = {}
    for name, (recognises, stages) in kinds.items():
        options = ModelOptions("cpu", services.settings.models_path, services.settings.cache_path)
        further = StageHolder(StageOptions("cpu", services.settings.models_path), stages)
        made[name] = make_worker(services, ModelHolder(services.engine, options, None, further, recognises=recognises))
    yield made
    for worker in made.values():
        worker.leave()


def work(services: Services, worker: Worker, *jobs: JobView) -> list[JobView]:
    """Let a worker do all it can; return the jobs then."""
    is_idle = False
    while not is_idle:
        is_idle = not worker.work()
        worker._list()  # what its listing loop does
        is_idle &= not worker.work()
    return [services.jobs.get(job.id) for job in jobs]


def outcomes(services: Services, job_id: int) -> Counter[str]:
    return Counter(json.loads(line)["outcome"] for line in services.jobs.report_lines(job_id))


def count(services: Services, statement: str, **values: Any) -> Any:
    with unit_of_work(services.engine) as session:
        return session.scalar(text(statement), values)


def check_both(services: Services, first: JobView, second: JobView, done: int, failed: int = 0) -> None:
    for job in (first, second):
        assert (job.state, job.listed, job.done, job.failed) == ("done", done + failed, done, failed), job
        assert outcomes(services, job.id) == Counter(done=done, failed=failed) - Counter()
    assert count(services, "SELECT count(*) FROM record WHERE job_id = :id", id=first.id) == done
    assert count(services, "SELECT count(*) FROM reading WHERE job_id = :id", id=second.id) == done


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often objects are fetched and decoded."""
    calls: Counter[str] = Counter()
    fetch, decode = FolderStore.fetch, Decoders.read_for_all

    def fetch_counted(self: FolderStore, *arguments: Any) -> Any:
        calls["fetch"] += 1
        return fetch(self, *arguments)

    def decode_counted(self: Decoders, *arguments: Any, **more: Any) -> Any:
        calls["decode"] += 1
        return decode(self, *arguments, **more)

    monkeypatch.setattr(FolderStore, "fetch", fetch_counted)
    monkeypatch.setattr(Decoders, "read_for_all", decode_counted)
    return calls


def test_a_worker_of_both_stages_fetches_and_decodes_each_image_once(
    services: Services, workers: dict[str, Worker], source: Path, counted: Counter[str]
) -> None:
    job = services.jobs.create(str(source), stages=["text"])
    [other] = services.jobs.followers(job.id)
    assert (other.stage, other.with_job, other.model) == ("text", job.id, "ppocr_v6")
    assert (job.followers, other.followers) == ([other.id], [])
    first, second = work(services, workers["both"], job, other)
    check_both(services, first, second, COUNT)
    assert counted == {"fetch": COUNT, "decode": COUNT}


def test_workers_of_one_stage_each_do_the_same_together(
    services: Services, workers: dict[str, Worker], source: Path, counted: Counter[str]
) -> None:
    job = services.jobs.create(str(source), stages=["text"])
    [other] = services.jobs.followers(job.id)
    first, second = work(services, workers["recognises"], job, other)
    assert (first.state, second.state, second.done) == ("done", "running", 0)
    first, second = work(services, workers["reads"], job, other)
    check_both(services, first, second, COUNT)
    assert counted["fetch"] == 2 * COUNT


def test_a_broken_image_fails_in_each_stage_and_a_retry_concerns_one(
    services: Services, workers: dict[str, Worker], source: Path
) -> None:
    (source / "00007.png").write_bytes(picture(7)[:300])
    job = services.jobs.create(str(source), stages=["text"])
    [other] = services.jobs.followers(job.id)
    first, second = work(services, workers["both"], job, other)
    check_both(services, first, second, COUNT - 1, failed=1)
    assert first.failures_by_class == second.failures_by_class == {"truncated": 1}
    (source / "00007.png").write_bytes(picture(7))
    services.jobs.retry(other.id)
    first, second = work(services, workers["both"], job, other)
    assert (first.done, first.failed, second.done, second.failed) == (COUNT - 1, 1, COUNT, 0)


def test_a_picture_that_one_stage_cannot_do_fails_there_alone(
    services: Services, workers: dict[str, Worker], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = NullReader.read
    unlucky = SquashTransform(40)  # pictures of the archive are 40 by 40

    def read_but_one(self: NullReader, pictures: Any) -> Any:
        if any((each[0, 0] == first_pixel).all() for each in pictures):
            raise ValueError("no such alphabet")
        return read(self, pictures)

    first_pixel = unlucky(Image.open(io.BytesIO(picture(3))))[0, 0]
    monkeypatch.setattr(NullReader, "read", read_but_one)
    job = services.jobs.create(str(source), stages=["text"])
    [other] = services.jobs.followers(job.id)
    first, second = work(services, workers["both"], job, other)
    assert (first.done, first.failed) == (COUNT, 0)
    assert (second.done, second.failures_by_class) == (COUNT - 1, {"model_error": 1})


def test_a_stage_is_added_to_what_is_recorded_and_done_again_only_for_what_changed(
    services: Services, workers: dict[str, Worker], source: Path
) -> None:
    job = services.jobs.create(str(source))
    work(services, workers["both"], job)
    [reading] = services.stages.start("text", SearchQuery())
    [reading] = work(services, workers["both"], reading)
    assert (reading.state, reading.listed, reading.done) == ("done", COUNT, COUNT)
    [again] = services.stages.start("text", SearchQuery())
    [again] = work(services, workers["both"], again)
    assert (again.listed, again.done, again.skipped) == (COUNT, 0, COUNT)
    (source / "00001.png").write_bytes(picture(1001))
    both = services.jobs.create(str(source), stages=["text"])
    [other] = services.jobs.followers(both.id)
    first, second = work(services, workers["both"], both, other)
    assert (first.done, first.skipped, second.done, second.skipped) == (1, COUNT - 1, 1, COUNT - 1)


def test_a_stage_is_added_to_the_hits_of_a_search(services: Services, workers: dict[str, Worker], source: Path) -> None:
    job = services.jobs.create(str(source))
    work(services, workers["recognises"], job)
    builder = workers["recognises"]._builder
    builder.publish_new(services.jobs.get(job.id).generation_id or 0, force=True)
    asked = services.search.read(SearchQuery(), 'tag:"tag 3"')
    found = services.search.image_ids(asked)
    assert 0 < len(found) < COUNT
    [reading] = services.stages.start("text", asked, words='tag:"tag 3"')
    assert reading.query == 'tag:"tag 3"'
    [reading] = work(services, workers["reads"], reading)
    assert (reading.state, reading.listed, reading.done) == ("done", len(found), len(found))
    assert count(services, "SELECT array_agg(image_id ORDER BY image_id) FROM reading") == sorted(found)
    assert count(services, "SELECT count(*) FROM naming") == 0
    assert services.search.image_ids(services.search.read(SearchQuery(), f"job:{reading.id}")) == sorted(found)
    assert services.search.image_ids(SearchQuery(job=reading.id)) == sorted(found)
    with pytest.raises(UsageError, match="no recorded image matches"):
        services.stages.start("text", services.search.read(SearchQuery(prefix="nowhere/"), 'tag:"tag 3"'))


def test_steering_a_job_steers_its_further_stages(services: Services, workers: dict[str, Worker], source: Path) -> None:
    job = services.jobs.create(str(source), stages=["text"])
    [other] = services.jobs.followers(job.id)
    services.jobs.pause(job.id)
    assert services.jobs.get(other.id).state == "paused"
    assert not workers["both"].work()
    services.jobs.resume(job.id)
    services.jobs.pause(other.id)
    first, second = work(services, workers["both"], job, other)
    assert (first.state, second.state, second.done) == ("done", "paused", 0)
    assert second.listed == COUNT  # it follows the listing all the same
    services.jobs.resume(other.id)
    first, second = work(services, workers["both"], job, other)
    check_both(services, first, second, COUNT)
    third = services.jobs.create(str(source), stages=["text"])
    services.jobs.cancel(third.id)
    assert [view.state for view in services.jobs.followers(third.id)] == ["cancelled"]


def test_a_stage_has_its_own_generations_which_search_can_use_and_drop(
    services: Services, workers: dict[str, Worker], source: Path
) -> None:
    job = services.jobs.create(str(source), stages=["text"])
    [other] = services.jobs.followers(job.id)
    work(services, workers["both"], job, other)
    [generation] = services.stages.generations()
    assert (generation.stage, generation.model, generation.images, generation.is_default) == (
        "text",
        "ppocr_v6",
        COUNT,
        True,
    )
    assert [view.id for view in services.generations.list()] == [services.jobs.get(job.id).generation_id]
    for refused in (services.stages.drop, services.stages.use, services.stages.about_drop):
        with pytest.raises(ConflictError, match="recognition"):
            refused(services.generations.list()[0].id)
    assert services.stages.drop(generation.id).records == COUNT
    assert services.stages.generations() == []
    assert count(services, "SELECT count(*) FROM reading") == 0
    assert count(services, "SELECT count(*) FROM record") == COUNT
    # Read again, it serves again.
    [again] = services.stages.start("text", SearchQuery())
    work(services, workers["both"], again)
    [generation] = services.stages.generations()
    assert (generation.images, generation.is_default) == (COUNT, True)


def test_when_the_generation_that_serves_is_dropped_the_newest_that_is_left_serves(
    services: Services, workers: dict[str, Worker], source: Path
) -> None:
    job = services.jobs.create(str(source), stages=["text"])
    work(services, workers["both"], job, *services.jobs.followers(job.id))
    with unit_of_work(services.engine) as session:
        spec = generations.StageSpec("text", "other", "ppocr_v6", "1" * 64, "masked")
        other = generations.ensure_of_stage(session, spec)
    first = next(each for each in services.stages.generations() if each.is_default)
    assert first.id != other
    services.stages.drop(first.id)
    assert [(each.id, each.is_default) for each in services.stages.generations()] == [(other, True)]


def test_a_job_whose_generation_was_dropped_is_not_taken_up_again(
    services: Services, workers: dict[str, Worker], source: Path
) -> None:
    (source / "00007.png").write_bytes(picture(7)[:300])
    job = services.jobs.create(str(source), stages=["text"])
    [other] = services.jobs.followers(job.id)
    work(services, workers["both"], job, other)
    services.stages.drop(services.stages.generations()[0].id)
    with pytest.raises(ConflictError, match="was dropped: start a new job"):
        services.jobs.retry(other.id)
    assert services.jobs.get(other.id).failed == 1


def test_a_job_that_fails_while_it_is_listed_ends_its_followers_and_resumes_them(
    services: Services, workers: dict[str, Worker], source: Path
) -> None:
    job = services.jobs.create(str(source), stages=["text"])
    with unit_of_work(services.engine) as session:
        jobs.fail(session, job.id, "the list has changed")
    [other] = services.jobs.followers(job.id)
    note = f"job {job.id}, whose listing it follows, failed: the list has changed"
    assert (other.state, other.note) == ("failed", note)
    services.jobs.resume(job.id)
    first, second = work(services, workers["both"], job, other)
    check_both(services, first, second, COUNT)


def test_a_stage_works_on_the_images_that_a_search_with_the_same_words_finds(
    services: Services, workers: dict[str, Worker], source: Path
) -> None:
    (source / "aa").mkdir()
    (source / "aa" / "x.png").write_bytes(picture(500))
    job = services.jobs.create(str(source))
    work(services, workers["both"], job)
    for asked in (
        SearchQuery(archive=f"{source}/aa", prefix="aa/"),
        SearchQuery(archive=f"{source}/aa", prefix="a"),
        SearchQuery(prefix="aa/x"),
    ):
        [reading] = services.stages.start("text", asked)
        assert work(services, workers["both"], reading)[0].listed == 1
    with pytest.raises(UsageError, match="no recorded image matches"):
        services.stages.start("text", SearchQuery(archive=f"{source}/aa", prefix="ab"))


def test_a_job_says_when_nobody_can_do_its_stage(services: Services, workers: dict[str, Worker], source: Path) -> None:
    workers["recognises"]._beat()
    job = services.jobs.create(str(source), stages=["text"])
    [other] = services.jobs.followers(job.id)
    assert other.note is not None
    assert "does the stage text" in other.note
    assert services.jobs.get(job.id).note is None
    workers["reads"]._beat()
    assert services.jobs.get(other.id).note is None


def test_unknown_stages_are_refused(services: Services, source: Path) -> None:
    with pytest.raises(UsageError, match="unknown stage 'tekst'; choose from text"):
        services.jobs.create(str(source), stages=["tekst"])
    with pytest.raises(UsageError, match="no recorded image matches"):
        services.stages.start("text", SearchQuery())

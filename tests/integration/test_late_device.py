"""A device that answers late: what is under way when a worker stops, dies, or loses its job, lease, memory or device.

The first tests drive a ``Pipeline`` in this process: each batch is answered when the test says so. The others start
real workers.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.errors import FatalError
from storage.ledger import claims
from storage.ledger.waiting import Able
from tests.services.checker import check_job, check_results, fill
from tests.services.fleet import check_counters, wait_for
from tests.services.late_device import (
    BATCH,
    IMAGES,
    Answer,
    LateModel,
    Run,
    start_late,
    wait_until_given,
)
from tests.services.null_worker import arguments, chosen, expected
from workers.pipeline import model_holder, model_options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ramq.settings import Settings
    from ramq.wiring import Services
    from tests.services.fleet import Fleet

pytestmark = pytest.mark.services


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> LateModel:
    late = LateModel()
    monkeypatch.setattr(model_holder, "load_model", lambda *_, **__: late)
    monkeypatch.setattr(model_options.ModelOptions, "arguments", property(arguments))
    monkeypatch.setattr(model_options.ModelOptions, "chosen", chosen)
    return late


@contextmanager
def running(settings: Settings, services: Services, model: LateModel, **options: Any) -> Iterator[Run]:
    run = Run(settings, services, model, **options)
    try:
        yield run
    finally:
        run.close()


def go_on(settings: Settings, services: Services, job_id: int) -> None:
    """Do what is left of a job with a device that answers at once; the books must balance."""
    again = LateModel()
    again.react = Answer.come
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_holder, "load_model", lambda *_, **__: again)
        with running(settings, services, again) as run:
            run.start()
            run.end()
            assert run.error is None
    with unit_of_work(services.engine) as session:
        from storage.ledger import endings  # noqa: PLC0415

        endings.finish_completed(session)
    check_counters(services, job_id)


def leased(services: Services) -> int:
    with unit_of_work(services.engine) as session:
        return int(session.scalar(text("SELECT count(*) FROM shard WHERE state = 'leased'")) or 0)


def test_every_image_is_written_once_if_all_answers_are_late(
    settings: Settings, services: Services, model: LateModel, tmp_path: Path
) -> None:
    files = fill(tmp_path / "photos", IMAGES)
    job = services.jobs.create(str(tmp_path / "photos"))
    with running(settings, services, model) as run:
        run.start()
        for number in range(IMAGES // BATCH):
            given = model.wait_for(min(number + 2, IMAGES // BATCH))  # two at once, never three
            time.sleep(0.1)
            assert len(model.given) <= number + 2
            assert services.jobs.get(job.id).done <= number * BATCH
            given[number].come()
        run.end()
        assert run.error is None
    go_on(settings, services, job.id)
    check_job(services, job.id, files)
    assert sum(answer.count for answer in model.given) == IMAGES


def test_a_pipeline_that_stops_writes_what_is_under_way_and_gives_the_rest_back(
    settings: Settings, services: Services, model: LateModel, tmp_path: Path
) -> None:
    files = fill(tmp_path / "photos", IMAGES)
    job = services.jobs.create(str(tmp_path / "photos"))
    with running(settings, services, model) as run:
        run.start()
        first, second, *_ = model.wait_for(2)
        run.pipeline.stop()
        time.sleep(0.5)
        assert services.jobs.get(job.id).done == 0
        first.come()
        time.sleep(1.0)
        second.come()
        run.end()
    assert len(model.given) == 2
    assert services.jobs.get(job.id).done == 2 * BATCH
    assert leased(services) == 0
    go_on(settings, services, job.id)
    check_job(services, job.id, files)


@pytest.mark.parametrize("do", ["pause", "cancel"])
def test_a_job_that_is_paused_or_cancelled_while_answers_are_awaited_loses_nothing(
    settings: Settings, services: Services, model: LateModel, tmp_path: Path, do: str
) -> None:
    files = fill(tmp_path / "photos", IMAGES)
    job = services.jobs.create(str(tmp_path / "photos"))
    with running(settings, services, model) as run:
        run.start()
        model.wait_for(2)
        getattr(services.jobs, do)(job.id)
        model.react = Answer.come
        for answer in list(model.given):
            answer.come()
        run.end()
        assert run.error is None
    view = services.jobs.get(job.id)
    assert view.listed == view.done + view.skipped + view.failed + view.pending
    assert leased(services) == 0
    check_counters(services, job.id)
    if do == "pause":
        services.jobs.resume(job.id)
        go_on(settings, services, job.id)
        check_job(services, job.id, files)
    else:
        assert view.state == "cancelled"


def test_what_is_under_way_is_not_written_after_the_lease_was_lost(
    settings: Settings, services: Services, model: LateModel, tmp_path: Path
) -> None:
    files = fill(tmp_path / "photos", IMAGES)
    job = services.jobs.create(str(tmp_path / "photos"))
    with running(settings, services, model) as run:
        run.start()
        model.wait_for(2)
        with unit_of_work(services.engine) as session:  # as if another worker had taken all over
            session.execute(text("UPDATE shard SET lease_until = now() - interval '1 second' WHERE state = 'leased'"))
            other = claims.claim(session, owner="other", lease_seconds=60, able=Able(None, run.pipeline._models.runs))
            assert other is not None
        run.pipeline.leases.renew_all()
        model.react = Answer.come
        for answer in list(model.given):
            answer.come()
        time.sleep(2)
        with unit_of_work(services.engine) as session:
            session.execute(text("UPDATE shard SET lease_until = now() - interval '1 second' WHERE state = 'leased'"))
        run.end()
    go_on(settings, services, job.id)
    check_job(services, job.id, files)


def out_of_memory() -> Exception:
    return RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_batches_that_do_not_fit_while_the_next_is_under_way_are_halved(
    settings: Settings, services: Services, model: LateModel, tmp_path: Path
) -> None:
    files = fill(tmp_path / "photos", IMAGES)
    job = services.jobs.create(str(tmp_path / "photos"))

    def fits_two(answer: Answer) -> None:
        later = threading.Timer(0.05, answer.come, [out_of_memory() if answer.count > 2 else None])
        later.daemon = True
        later.start()

    model.react = fits_two
    with running(settings, services, model) as run:
        run.start()
        run.end()
        assert run.error is None
    go_on(settings, services, job.id)
    check_job(services, job.id, files)
    written = sum(answer.count for answer in model.given if answer.count <= 2)
    assert written == IMAGES


def test_a_device_without_memory_for_one_image_fails_no_image(
    settings: Settings, services: Services, model: LateModel, tmp_path: Path
) -> None:
    files = fill(tmp_path / "photos", IMAGES)
    job = services.jobs.create(str(tmp_path / "photos"))
    with running(settings, services, model) as run:
        run.start()
        model.wait_for(2)
        run._able = Able(None, ("nothing",))  # as a worker that is barred
        model.react = lambda answer: answer.come(out_of_memory())
        for answer in list(model.given):
            answer.come(out_of_memory())
        run.end()
        assert run.error is None
        assert run.fitness.reasons()
    view = services.jobs.get(job.id)
    assert (view.done, view.failed) == (0, 0)
    assert leased(services) == 0
    go_on(settings, services, job.id)
    check_job(services, job.id, files)


@pytest.mark.parametrize("number", [0, 1])
def test_a_device_that_is_lost_ends_the_pipeline_and_loses_nothing(
    settings: Settings, services: Services, model: LateModel, tmp_path: Path, number: int
) -> None:
    files = fill(tmp_path / "photos", IMAGES)
    job = services.jobs.create(str(tmp_path / "photos"))
    with running(settings, services, model) as run:
        run.start()
        given = model.wait_for(2)
        if number == 1:
            given[0].come()
        given[number].come(RuntimeError("CUDA error: device-side assert triggered"))
        for answer in given[number + 1 :]:
            answer.come(RuntimeError("CUDA error: device-side assert triggered"))
        model.react = lambda answer: answer.come(RuntimeError("CUDA error: device-side assert triggered"))
        run.end()
        assert isinstance(run.error, FatalError), run.error
    view = services.jobs.get(job.id)
    assert view.failed == 0
    assert view.done <= number * BATCH
    with unit_of_work(services.engine) as session:
        session.execute(text("UPDATE shard SET lease_until = now() - interval '1 second' WHERE state = 'leased'"))
    go_on(settings, services, job.id)
    check_job(services, job.id, files)


def test_an_image_that_fails_late_fails_alone(
    settings: Settings, services: Services, model: LateModel, tmp_path: Path
) -> None:
    files = fill(tmp_path / "photos", IMAGES)
    from tests.services.checker import prepared  # noqa: PLC0415

    bad = expected(prepared(files["00005.png"])).vector

    def react(answer: Answer) -> None:
        is_bad = any((one.vector == bad).all() for one in answer._predictions)
        later = threading.Timer(0.05, answer.come, [ValueError("not this one") if is_bad else None])
        later.daemon = True
        later.start()

    model.react = react
    job = services.jobs.create(str(tmp_path / "photos"))
    with running(settings, services, model) as run:
        run.start()
        run.end()
        assert run.error is None
    go_on(settings, services, job.id)
    view = services.jobs.get(job.id)
    assert (view.done, view.failed) == (IMAGES - 1, 1)
    check_counters(services, job.id)


# Worker processes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", ["1.0", "6.0"], ids=["shorter than a lease", "longer than a lease"])
def test_a_worker_told_to_stop_finishes_what_its_device_has(
    services: Services, fleet: Fleet, tmp_path: Path, seconds: str
) -> None:
    files = fill(tmp_path / "photos", 100)
    job = services.jobs.create(str(tmp_path / "photos"))
    note = tmp_path / "given"
    worker = start_late(fleet, LATE_SECONDS=seconds, LATE_FIRST_NOTE=str(note))  # a lease takes 3 seconds
    wait_until_given(note)
    before = services.jobs.get(job.id).done
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0, fleet.log()
    assert leased(services) == 0
    done = services.jobs.get(job.id).done
    fleet.start(1)
    wait_for(services, job.id, fleet, lambda view: view.is_over)
    check_job(services, job.id, files)
    assert done >= before + 16, f"the batch in hand was thrown away\n{fleet.log()[-3000:]}"


def test_a_worker_told_to_stop_keeps_its_lease_while_another_is_idle(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    files = fill(tmp_path / "photos", 60)
    job = services.jobs.create(str(tmp_path / "photos"))
    note, count = tmp_path / "given", tmp_path / "count"
    worker = start_late(fleet, LATE_SECONDS="6.0", LATE_FIRST_NOTE=str(note), NULL_MODEL_COUNT=str(count))
    wait_until_given(note)
    fleet.start(1, NULL_MODEL_COUNT=str(count))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0, fleet.log()
    wait_for(services, job.id, fleet, lambda view: view.is_over)
    check_job(services, job.id, files)
    assert count.stat().st_size == 60, f"recognised twice: {count.stat().st_size - 60}\n{fleet.log()[-3000:]}"


def test_a_worker_killed_while_its_device_works_costs_nothing(services: Services, fleet: Fleet, tmp_path: Path) -> None:
    files = fill(tmp_path / "photos", 100)
    job = services.jobs.create(str(tmp_path / "photos"))
    note = tmp_path / "given"
    worker = start_late(fleet, LATE_SECONDS="4.0", LATE_FIRST_NOTE=str(note))
    wait_until_given(note)
    fleet.kill(worker)
    fleet.start(1)
    wait_for(services, job.id, fleet, lambda view: view.is_over)
    check_job(services, job.id, files)


@pytest.mark.parametrize("do", ["pause", "cancel"])
def test_a_worker_whose_job_ends_while_its_device_works(
    services: Services, fleet: Fleet, tmp_path: Path, do: str
) -> None:
    files = fill(tmp_path / "photos", 100)
    job = services.jobs.create(str(tmp_path / "photos"))
    note = tmp_path / "given"
    start_late(fleet, LATE_SECONDS="2.0", LATE_FIRST_NOTE=str(note))
    wait_until_given(note)
    getattr(services.jobs, do)(job.id)
    deadline = time.monotonic() + 30
    while leased(services):
        assert time.monotonic() < deadline, fleet.log()[-3000:]
        time.sleep(0.1)
    check_counters(services, job.id)
    if do == "pause":
        services.jobs.resume(job.id)
        wait_for(services, job.id, fleet, lambda view: view.is_over)
        check_job(services, job.id, files)
    else:
        assert services.jobs.get(job.id).state == "cancelled"
        check_results(services, {name: files[name] for name in files if name in recorded(services)})


def recorded(services: Services) -> set[str]:
    with unit_of_work(services.engine) as session:
        return set(session.scalars(text("SELECT key FROM image JOIN record ON image_id = image.id")).all())

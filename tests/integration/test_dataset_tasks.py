"""Steps of data sets: phases in order, tasks done once, and what happens if a worker ends in the middle."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from storage.database import unit_of_work
from storage.datasets import step_jobs, tasks, versions
from storage.errors import ConflictError, RamqError, ServiceUnavailableError, UsageError
from storage.results import partitions
from workers.datasets import builder as build_module
from workers.datasets.builder import DatasetBuilder
from workers.datasets.phase import Tools

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.datasets.tasks import Task
    from storage.datasets.versions import VersionView
    from workers.datasets.phase import Write

pytestmark = pytest.mark.services


class Noting:
    """A phase that notes the numbers of its tasks in the version's counts."""

    def __init__(self, inputs: Sequence[dict[str, Any]], before: Callable[[Task], None] | None = None) -> None:
        self.inputs = inputs
        self.before = before
        self.waits: str | None = None

    def is_ready(self, _session: Session, _version: VersionView) -> str | None:
        return self.waits

    def plan(self, _session: Session, _version: VersionView) -> Sequence[dict[str, Any]]:
        return self.inputs

    def run(self, _tools: Tools, version: VersionView, task: Task) -> Write:
        if self.before is not None:
            self.before(task)

        def write(session: Session) -> dict[str, Any]:
            done = versions.view(session, version.id).counts.get(task.phase, [])
            versions.add_counts(session, version.id, {task.phase: [*done, task.input["n"]]})
            return {"sha256": "abc"}

        return write


@pytest.fixture
def version_id(engine: Engine) -> int:
    with unit_of_work(engine) as session:
        vocabulary_id = session.scalar(
            text("INSERT INTO vocabulary (sha256, name, size) VALUES ('x', 'v', 0) RETURNING id")
        )
        assert vocabulary_id is not None
        dataset_id = versions.create(session, "birds", vocabulary_id, "local")
        return versions.begin(
            session, dataset_id, step="build", phase="first", settings={}, parent_id=None, said_by="local"
        )


def builder(engine: Engine, owner: str = "one", **phases: Noting) -> DatasetBuilder:
    return DatasetBuilder(owner, Tools(engine, files=None), {"build": phases})  # type: ignore[arg-type]


def view(engine: Engine, version_id: int) -> VersionView:
    with unit_of_work(engine) as session:
        return versions.view(session, version_id)


def run(made: DatasetBuilder) -> None:
    while made.step(lambda: False):
        pass


def test_phases_run_in_order_and_one_without_tasks_is_passed(engine: Engine, version_id: int) -> None:
    last = Noting([{"n": 7}])
    run(builder(engine, first=Noting([{"n": 1}, {"n": 2}]), second=Noting([]), last=last))
    seen = view(engine, version_id)
    assert (seen.state, seen.sha256, seen.phase) == ("done", "abc", None)
    assert seen.counts == {"first": [1, 2], "last": [7]}
    assert seen.finished_at is not None


def test_how_long_a_step_takes_is_told_once_three_tasks_are_done(engine: Engine, version_id: int) -> None:
    told: list[float | None] = []
    first = Noting([{"n": n} for n in range(5)], lambda _task: told.append(view(engine, version_id).eta_seconds))
    run(builder(engine, first=first, last=Noting([{"n": 5}])))
    assert told[:3] == [None] * 3
    assert None not in told[3:]


def test_a_phase_waits_and_says_for_what(engine: Engine, version_id: int) -> None:
    first = Noting([{"n": 1}])
    first.waits = "job 3"
    made = builder(engine, first=first)
    run(made)
    assert (view(engine, version_id).state, view(engine, version_id).note) == ("running", "job 3")
    first.waits = None
    run(made)
    assert view(engine, version_id).state == "done"


def test_a_holder_whose_lease_was_taken_over_writes_nothing(engine: Engine, version_id: int) -> None:
    phases = {"first": Noting([{"n": 1}])}

    def take_over(_task: Task) -> None:
        with unit_of_work(engine) as session:
            session.execute(text("UPDATE dataset_task SET lease_until = now() - interval '1 second'"))
        phases["first"].before = None
        run(builder(engine, "two", **phases))

    phases["first"].before = take_over
    run(builder(engine, **phases))
    seen = view(engine, version_id)
    assert (seen.state, seen.counts) == ("done", {"first": [1]})


def test_a_paused_step_writes_nothing_and_goes_on_when_it_is_resumed(engine: Engine, version_id: int) -> None:
    def pause(_task: Task) -> None:
        with unit_of_work(engine) as session:
            versions.steer(session, version_id, to="paused", allowed=("running",))

    first = Noting([{"n": 1}], pause)
    run(builder(engine, first=first))
    assert (view(engine, version_id).state, view(engine, version_id).counts) == ("paused", {})
    first.before = None
    with unit_of_work(engine) as session:
        session.execute(text("UPDATE dataset_task SET lease_until = now() - interval '1 second'"))
        versions.steer(session, version_id, to="running", allowed=("paused",))
    run(builder(engine, first=first))
    assert (view(engine, version_id).state, view(engine, version_id).counts) == ("done", {"first": [1]})


def test_a_task_that_can_never_be_done_fails_the_step_until_it_is_resumed(engine: Engine, version_id: int) -> None:
    def refuse(_task: Task) -> None:
        raise UsageError("no tags")

    first = Noting([{"n": 1}], refuse)
    run(builder(engine, first=first))
    assert (view(engine, version_id).state, view(engine, version_id).note) == ("failed", "no tags")
    first.before = None
    with unit_of_work(engine) as session:
        versions.steer(session, version_id, to="running", allowed=("failed",))
    run(builder(engine, first=first))
    assert view(engine, version_id).state == "done"


def test_a_service_that_is_away_for_a_moment_costs_no_attempt(engine: Engine, version_id: int) -> None:
    def away(_task: Task) -> None:
        raise ServiceUnavailableError("the store is away")

    run(builder(engine, first=Noting([{"n": 1}], away)))
    with unit_of_work(engine) as session:
        row = session.execute(
            text("SELECT state, attempts, given_back, note, next_try_at > now() AS later FROM dataset_task")
        ).one()
    assert tuple(row) == ("ready", 0, 1, "the store is away", True)
    with unit_of_work(engine) as session:
        session.execute(text("UPDATE dataset_task SET next_try_at = now(), given_back = 7"))
    run(builder(engine, first=Noting([{"n": 1}], away)))
    with unit_of_work(engine) as session:
        assert session.scalar(text("SELECT next_try_at > now() + interval '25 seconds' FROM dataset_task"))
    assert view(engine, version_id).state == "running"


def test_a_task_whose_holders_all_ended_is_given_up(engine: Engine, version_id: int) -> None:
    with unit_of_work(engine) as session:
        tasks.add(session, version_id, "first", [{"n": 1}])
        versions.set_planned(session, version_id)
        session.execute(text("UPDATE dataset_task SET attempts = :most"), {"most": tasks.MOST_ATTEMPTS})
    run(builder(engine, first=Noting([])))
    seen = view(engine, version_id)
    assert seen.state == "failed"
    assert seen.note == "5 workers ended while they did task 1 of first"


def test_a_set_has_one_step_at_a_time_and_a_cancelled_one_leaves_nothing(engine: Engine, version_id: int) -> None:
    seen = view(engine, version_id)
    with pytest.raises(ConflictError, match="is running; wait for it"), unit_of_work(engine) as session:
        versions.begin(
            session, seen.dataset_id, step="clean", phase="first", settings={}, parent_id=None, said_by="local"
        )
    with unit_of_work(engine) as session:
        versions.steer(session, version_id, to="cancelled", allowed=("running",))
        number = versions.begin(
            session, seen.dataset_id, step="build", phase="first", settings={}, parent_id=None, said_by="local"
        )
        assert versions.view(session, number).number == 2
    run(builder(engine, first=Noting([{"n": 1}])))
    with unit_of_work(engine) as session:
        assert session.scalar(text(f"SELECT to_regclass('dataset_item_v{version_id}')")) is None
        assert session.scalar(text(f"SELECT to_regclass('dataset_item_v{number}')")) is not None


def test_a_version_that_is_read_is_not_cancelled_and_others_do_not_wait(
    engine: Engine, version_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "PATIENCE", "200ms")
    with engine.connect() as reader:
        reader.execute(text(f"SELECT FROM dataset_item WHERE version_id = {version_id}"))
        with pytest.raises(ConflictError, match="in use: try again"), unit_of_work(engine) as session:
            versions.steer(session, version_id, to="cancelled", allowed=("running",))
        with unit_of_work(engine) as session:
            session.execute(text("DELETE FROM dataset_version"))
        made = builder(engine, first=Noting([]))
        run(made)  # it cannot sweep now
        with unit_of_work(engine) as session:
            assert session.scalar(text(f"SELECT to_regclass('dataset_item_v{version_id}')")) is not None


def test_a_step_whose_jobs_are_gone_with_their_archive_is_resumed_and_cancelled(
    engine: Engine, version_id: int
) -> None:
    with unit_of_work(engine) as session:
        versions.add_jobs(session, version_id, [123])
        assert step_jobs.of_stage(session, versions.view(session, version_id), "locate") == []
        versions.steer(session, version_id, to="paused", allowed=("running",))
    for to in ("cancelled", "deleted"):
        with unit_of_work(engine) as session:
            session.execute(text("UPDATE dataset_version SET job_ids = '{123}'"))
            if to == "deleted":
                versions.delete(session, versions.view(session, version_id).dataset_id)
            else:
                versions.steer(session, version_id, to="cancelled", allowed=("paused",))


def test_a_task_that_ends_keeps_its_step_from_being_cancelled_before_it_has_written(
    engine: Engine, version_id: int
) -> None:
    with unit_of_work(engine) as session:
        tasks.add(session, version_id, "first", [{"n": 1}])
        task = tasks.claim(session, owner="one", lease_seconds=60)
    assert task is not None
    with unit_of_work(engine) as session:
        tasks.finish(session, task, 1.0)
        with engine.connect() as other, pytest.raises(OperationalError, match="could not obtain lock"):
            other.execute(text("SELECT FROM dataset_version FOR UPDATE NOWAIT"))
        versions.add_counts(session, version_id, {"first": 1})


def test_a_phase_is_told_that_its_step_was_paused_or_that_its_worker_ends(
    engine: Engine, version_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "LEASE_SECONDS", 0.3)
    first = Noting([{"n": 1}])
    made = builder(engine, first=first)
    is_told: list[str] = []

    def compute(_task: Task) -> None:
        try:
            while True:
                made._tools.go_on()
                time.sleep(0.01)
        except RamqError as error:
            is_told.append(str(error))
            raise

    def pause(task: Task) -> None:
        with unit_of_work(engine) as session:
            versions.steer(session, version_id, to="paused", allowed=("running",))
        compute(task)

    first.before = pause
    run(made)
    with unit_of_work(engine) as session:
        versions.steer(session, version_id, to="running", allowed=("paused",))
    stops = iter([False])
    first.before = compute
    made.step(lambda: next(stops, True))
    assert is_told == ["the task was taken over, paused or cancelled", "this worker ends"]
    with unit_of_work(engine) as session:
        assert tuple(session.execute(text("SELECT state, attempts FROM dataset_task")).one()) == ("ready", 0)
    first.before = None
    run(made)
    assert view(engine, version_id).state == "done"

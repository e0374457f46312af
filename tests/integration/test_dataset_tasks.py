"""Steps of data sets: phases in order, tasks done once, and what happens if a worker ends in the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.datasets import tasks, versions
from storage.errors import ConflictError, ServiceUnavailableError, UsageError
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
            text("SELECT state, attempts, note, next_try_at > now() AS later FROM dataset_task")
        ).one()
    assert tuple(row) == ("ready", 0, "the store is away", True)
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
        assert session.scalar(text("SELECT to_regclass('dataset_item_v1')")) is None
        number = versions.begin(
            session, seen.dataset_id, step="build", phase="first", settings={}, parent_id=None, said_by="local"
        )
        assert versions.view(session, number).number == 2

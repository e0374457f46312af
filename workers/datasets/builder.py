"""Moves steps of data sets on: plans their phases and does their tasks."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from structlog.contextvars import bound_contextvars

from storage.background import repeated
from storage.database import unit_of_work
from storage.datasets import partitions, tasks, versions
from storage.errors import ConflictError, RamqError, TransientError
from workers.datasets.phase import StoppingError
from workers.datasets.steps import PHASES
from workers.pipeline.retry import backoff_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy.orm import Session

    from storage.datasets.tasks import Task
    from storage.datasets.versions import VersionView
    from workers.datasets.phase import Phase, Tools

log = structlog.get_logger()

LEASE_SECONDS = 60.0
SWEEP_SECONDS = 60.0
"""How often a worker looks for what remains of deleted versions."""

STEP_SECONDS = 3.0
"""A worker does tasks for this long before it looks at its other chores again."""


class DatasetBuilder:
    """Does the work of steps. One thread.

    Args:
        owner: id of the worker.
        tools: what phases work with.
        steps: the phases of each step.
    """

    def __init__(self, owner: str, tools: Tools, steps: Mapping[str, Mapping[str, Phase]] = PHASES) -> None:
        self._owner = owner
        self._tools = tools
        self._steps = steps
        self._version: int | None = None
        self._sweeps_at = 0.0

    def step(self, should_stop: Callable[[], bool]) -> bool:
        """Work for a few seconds. Return whether there was anything to do."""
        until = time.monotonic() + STEP_SECONDS
        was_busy = False
        self._tools.should_stop = should_stop
        self._sweep()
        while not should_stop() and time.monotonic() < until:
            self._move_on()
            with unit_of_work(self._tools.engine) as session:
                task = tasks.claim(session, owner=self._owner, lease_seconds=LEASE_SECONDS)
                version = None if task is None else versions.view(session, task.version_id)
            if task is None or version is None:
                break
            was_busy = True
            with bound_contextvars(dataset=version.name, version=version.number, phase=task.phase, task=task.number):
                self._do(task, version)
        return was_busy

    def _sweep(self) -> None:
        if time.monotonic() < self._sweeps_at:
            return
        self._sweeps_at = time.monotonic() + SWEEP_SECONDS
        try:
            with unit_of_work(self._tools.engine) as session:
                partitions.drop_unused(session)
        except ConflictError as error:
            log.info("nothing swept", error=str(error))

    # Phases --------------------------------------------------------------------------------------------------------

    def _move_on(self) -> None:
        with unit_of_work(self._tools.engine) as session:
            running = versions.running(session)
        for version_id in running:
            try:
                with unit_of_work(self._tools.engine) as session:
                    if versions.lock_running(session, version_id):
                        self._plan(session, versions.view(session, version_id))
            except TransientError as error:
                log.warning("step waits", version=version_id, error=str(error))
            except RamqError as error:
                with unit_of_work(self._tools.engine) as session:
                    versions.fail(session, version_id, str(error))

    def _plan(self, session: Session, version: VersionView) -> None:
        """Plan the phase that a step is in. Once its tasks are done, move on to the next one, or end the step."""
        phases = list(self._steps[version.step])
        if version.phase not in phases:
            versions.fail(session, version.id, f"this version of ramq has no phase {version.phase!r}; upgrade workers")
        elif not version.is_planned:
            if self._plan_phase(session, version, self._steps[version.step][version.phase]):
                self._plan(session, versions.view(session, version.id))  # it may have no tasks, and be over
        elif version.tasks_done < version.tasks:
            return
        elif version.phase != phases[-1]:
            versions.set_phase(session, version.id, phases[phases.index(version.phase) + 1])
            self._plan(session, versions.view(session, version.id))
        else:
            [result] = tasks.results(session, version.id, version.phase)
            versions.finish(session, version.id, result["sha256"])

    @staticmethod
    def _plan_phase(session: Session, version: VersionView, phase: Phase) -> bool:
        """Plan a phase, unless it has to wait. Return whether it is planned."""
        waits = phase.is_ready(session, version)
        if waits is not None:
            versions.set_note(session, version.id, waits)
            return False
        assert version.phase is not None
        tasks.add(session, version.id, version.phase, phase.plan(session, version))
        versions.set_planned(session, version.id)
        return True

    # Tasks ---------------------------------------------------------------------------------------------------------

    def _do(self, task: Task, version: VersionView) -> None:
        if task.attempts > tasks.MOST_ATTEMPTS:
            note = f"{task.attempts - 1} workers ended while they did task {task.number} of {task.phase}"
            self._fail(task, note)
            return
        if self._version != version.id:
            self._tools.cached.clear()
            self._version = version.id
        began = time.monotonic()
        try:
            with self._renewing(task):
                write = self._steps[version.step][task.phase].run(self._tools, version, task)
            with unit_of_work(self._tools.engine) as session:
                tasks.finish(session, task, time.monotonic() - began)
                if (result := write(session)) is not None:
                    tasks.set_result(session, task, result)
        except (tasks.TaskLostError, StoppingError) as error:
            log.info("task left", reason=str(error))
            with unit_of_work(self._tools.engine) as session:
                tasks.give_back(session, task)
        except TransientError as error:
            log.warning("task waits", error=str(error))
            with unit_of_work(self._tools.engine) as session:
                tasks.give_back(session, task, delay_seconds=backoff_seconds(task.given_back + 1), note=str(error))
        except RamqError as error:
            self._fail(task, str(error))
        except Exception as error:
            # A bug in ramq: show it on the step too, not only in a log.
            self._fail(task, f"it failed unexpectedly ({type(error).__name__}): see the workers' logs")
            raise

    def _fail(self, task: Task, note: str) -> None:
        log.error("task failed", error=note)
        with unit_of_work(self._tools.engine) as session:
            tasks.fail(session, task, note)

    @contextmanager
    def _renewing(self, task: Task) -> Iterator[None]:
        """Renew the lease of a task while a block runs, and notice if it is lost."""
        self._tools.is_lost.clear()

        def renew() -> bool:
            try:
                with unit_of_work(self._tools.engine) as session:
                    if not tasks.renew(session, task, LEASE_SECONDS):
                        self._tools.is_lost.set()
            except RamqError as error:
                log.warning("lease not renewed", error=str(error))
            return not self._tools.is_lost.is_set()

        with repeated("dataset-lease", LEASE_SECONDS / 3, renew):
            yield

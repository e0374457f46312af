"""What the builder asks of a phase."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from storage.database import unit_of_work
from storage.datasets import items, tasks
from storage.errors import RamqError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Engine

    from storage.datasets.tasks import Task
    from storage.datasets.versions import VersionView
    from storage.index.feature_files import FeatureFiles

Write = Callable[[Session], "dict[str, Any] | None"]
"""Writes what a task found, in the transaction that ends the task. Returns what to keep of it as its result."""


class StoppingError(RamqError):
    """This worker is to end: the task is given back."""

    code = "stopping"


@dataclass(slots=True)
class Tools:
    """What phases work with.

    Attributes:
        engine: the database. Reading needs transactions of a phase's own; only ``Write`` and ``page`` write.
        files: stored features of images.
        cached: what a phase keeps between its tasks, such as a parser. The builder empties it with each new version.
        is_lost: set by the builder if the task was taken over, or its step was paused or cancelled.
        should_stop: whether this worker is to end.
    """

    engine: Engine
    files: FeatureFiles
    cached: dict[str, Any] = field(default_factory=dict)
    is_lost: threading.Event = field(default_factory=threading.Event)
    should_stop: Callable[[], bool] = lambda: False

    def go_on(self) -> None:
        """Check that a task is still wanted. A phase calls it every few seconds while it computes.

        Raises:
            TaskLostError: the task was taken over, or its step was paused or cancelled.
            StoppingError: this worker is to end.
        """
        if self.is_lost.is_set():
            raise tasks.TaskLostError("the task was taken over, paused or cancelled")
        if self.should_stop():
            raise StoppingError("this worker ends")

    @contextmanager
    def page(self, task: Task) -> Iterator[Session]:
        """Begin a transaction that writes a part of what a task found: all of it would hold locks for too long.

        Another worker may write it again, so this must do no harm. Raises ``TaskLostError`` as ``go_on``.
        """
        self.go_on()
        with unit_of_work(self.engine) as session:
            tasks.hold(session, task)
            yield session


class Phase:
    """A part of a step.

    A phase is planned once, in a transaction that locks the version. It ends when all its tasks are done. What is not
    said otherwise: it waits for nothing and is one task.
    """

    def is_ready(self, _session: Session, _version: VersionView) -> str | None:
        """Return what it waits for, in words, such as jobs; None: it may be planned.

        Raises ``RamqError`` (none of ``TransientError``) if that will never come: the step then fails.
        """
        return None

    def plan(self, _session: Session, _version: VersionView) -> Sequence[dict[str, Any]]:
        """Return the inputs of its tasks. It may write what all of them need. An empty list: nothing is to do."""
        return [{}]

    def run(self, tools: Tools, version: VersionView, task: Task) -> Write:
        """Do a task, apart from writing. It may take hours, with ``Tools.go_on``: its lease is renewed meanwhile.

        Raises ``TransientError`` to be tried again later, any other ``RamqError`` if it can never be done.
        """
        raise NotImplementedError  # a phase without tasks has none


def by_images(session: Session, version_id: int, size: int) -> list[dict[str, Any]]:
    """Return the inputs of tasks that are ranges of about ``size`` images of a version."""
    return [{"first": each.first, "last": each.last} for each in items.ranges(session, version_id, size)]

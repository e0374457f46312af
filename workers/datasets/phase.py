"""What the builder asks of a phase."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from storage.datasets.tasks import Task
    from storage.datasets.versions import VersionView
    from storage.index.feature_files import FeatureFiles

Write = Callable[[Session], "dict[str, Any] | None"]
"""Writes what a task found, in the transaction that ends the task. Returns what to keep of it as its result."""


@dataclass(slots=True)
class Tools:
    """What phases work with.

    Attributes:
        engine: the database. Reading needs transactions of a phase's own; only ``Write`` writes.
        files: stored features of images.
        cached: what a phase keeps between its tasks, such as a parser. The builder empties it with each new version.
    """

    engine: Engine
    files: FeatureFiles
    cached: dict[str, Any] = field(default_factory=dict)


class Phase(Protocol):
    """A part of a step.

    A phase is planned once, in a transaction that locks the version. It ends when all its tasks are done.
    """

    def is_ready(self, session: Session, version: VersionView) -> str | None:
        """Return what it waits for, in words, such as jobs; None: it may be planned.

        Raises ``RamqError`` (none of ``TransientError``) if that will never come: the step then fails.
        """

    def plan(self, session: Session, version: VersionView) -> Sequence[dict[str, Any]]:
        """Return the inputs of its tasks. It may write what all of them need. An empty list: nothing is to do."""

    def run(self, tools: Tools, version: VersionView, task: Task) -> Write:
        """Do a task, apart from writing. It may take minutes: its lease is renewed meanwhile.

        Raises ``TransientError`` to be tried again later, any other ``RamqError`` if it can never be done.
        """

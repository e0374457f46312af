"""A phase that begins jobs on the pictures of the parent and waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from storage.datasets import step_jobs
from workers.datasets.phase import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.orm import Session

    from storage.datasets.step_jobs import Wanted
    from storage.datasets.versions import VersionView


class JobsPhase(Phase):
    """Begins jobs and waits until they have ended. It has no tasks of its own.

    If one of them fails or is cancelled, the step fails. Resuming it resumes failed jobs and replaces cancelled ones.

    Args:
        wanted: from a version to what its jobs do; None: it needs none.
    """

    def __init__(self, wanted: Callable[[Session, VersionView], Wanted | None]) -> None:
        self._wanted = wanted

    def is_ready(self, session: Session, version: VersionView) -> str | None:
        """Begin the jobs if that was not done yet. Return which have not ended, and how far they are."""
        wanted = self._wanted(session, version)
        if wanted is None:
            return None
        # The note is empty when the phase begins and after the step was resumed. While it waits, the note says so.
        if version.note is None:
            job_ids = step_jobs.begin(session, version, wanted)
        else:
            job_ids = [job.id for job in step_jobs.of_stage(session, version, wanted.stage)]
        return step_jobs.waits_for(session, job_ids)

    def plan(self, _session: Session, _version: VersionView) -> Sequence[dict[str, Any]]:
        """Return no tasks."""
        return []

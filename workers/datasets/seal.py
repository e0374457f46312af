"""Phase ``seal``, the last one of every step: counts, and a hash over everything. Then the version never changes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from storage.database import unit_of_work
from storage.datasets import content, labels, versions
from workers.datasets.phase import Phase

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.datasets.tasks import Task
    from storage.datasets.versions import VersionView
    from workers.datasets.phase import Tools, Write


class Seal(Phase):
    """Counts and hashes a version: one task."""

    def run(self, tools: Tools, version: VersionView, _task: Task) -> Write:
        """Count and hash. The result has ``sha256``, and what ``labels.tag_counts`` returns: nobody counts it again."""
        with unit_of_work(tools.engine) as session:
            counts = content.counts(session, version.id)
            tags = [asdict(each) for each in labels.tag_counts(session, version.id)]
            sha256 = content.sha256(session, version.id)

        def write(session: Session) -> dict[str, Any]:
            versions.add_counts(session, version.id, counts)
            return {"sha256": sha256, "tags": tags}

        return write

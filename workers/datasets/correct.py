"""Phase ``correct``: a copy of the parent version with what people said since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from storage.datasets import items, labels, said
from workers.datasets.label import IMAGES_PER_TASK
from workers.datasets.phase import Phase, by_images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from storage.datasets.tasks import Task
    from storage.datasets.versions import VersionView
    from workers.datasets.phase import Tools, Write


class Correct(Phase):
    """Copies pictures and labels of the parent, and applies corrections to them."""

    def plan(self, session: Session, version: VersionView) -> Sequence[dict[str, Any]]:
        """A task for each thousand images of the parent."""
        assert version.parent_id is not None  # the step was begun with one, and it cannot be deleted alone
        return by_images(session, version.parent_id, IMAGES_PER_TASK)

    def run(self, _tools: Tools, version: VersionView, task: Task) -> Write:
        """Copy and correct a range of images."""
        parent, first, last = version.parent_id, task.input["first"], task.input["last"]

        def write(session: Session) -> dict[str, Any]:
            assert parent is not None
            copied = items.copy(session, parent, version.id, first, last)
            labels.copy(session, parent, version.id, first, last)
            changed = said.apply(session, version.id, version.vocabulary_id, first, last)
            return {"images": copied, "present": changed.present, "removed": changed.removed}

        return write

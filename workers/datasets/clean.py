"""The step ``clean``: drops tags from pictures as RAM's data engine does (arXiv:2306.03514, section 3.3).

The tags of each picture are located in it, its regions are recognised as pictures of their own, and each tag's regions
are clustered. Without a detector each picture is its own region.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from storage.datasets import items
from storage.datasets.sought import OPTION
from storage.datasets.step_jobs import Wanted
from workers.datasets import cluster
from workers.datasets.jobs import JobsPhase
from workers.datasets.phase import Phase, by_images
from workers.datasets.scale import ScalePhase
from workers.datasets.tally import TallyPhase, added

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from storage.datasets.tasks import Task
    from storage.datasets.versions import VersionView
    from workers.datasets.phase import Tools, Write

RANGE = 20_000
"""Pictures that are copied at once."""


class ItemsPhase(Phase):
    """Copies the pictures of the parent, with captions and splits. Labels need them."""

    def plan(self, session: Session, version: VersionView) -> Sequence[dict[str, Any]]:
        """Return ranges of pictures."""
        assert version.parent_id is not None
        return by_images(session, version.parent_id, RANGE)

    def run(self, _tools: Tools, version: VersionView, task: Task) -> Write:
        """Copy a range."""
        parent_id, first, last = version.parent_id, task.input["first"], task.input["last"]
        assert parent_id is not None

        def write(session: Session) -> dict[str, Any]:
            return {"pictures": items.copy(session, parent_id, version.id, first, last)}

        return write


def _locate(_session: Session, version: VersionView) -> Wanted | None:
    if version.settings["cleaning"]["regions"] != "located":
        return None
    return Wanted("locate", version.settings["detector"], options={OPTION: version.parent_id})


def _crop(_session: Session, version: VersionView) -> Wanted | None:
    if version.settings["cleaning"]["regions"] != "located":
        return None
    return Wanted("crops", version.settings["recogniser"])


def _summary(_session: Session, _version: VersionView, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the counts of a version. ``labels`` are ``kept`` and ``dropped`` (by reason) ones.

    ``skipped`` counts tags that were not, or not wholly, cleaned, by reason.
    """
    named = ("tag", "name", "skipped", "typical")
    total = added([{name: value for name, value in each.items() if name not in named} for each in results])
    skipped = Counter(each["skipped"] for each in results if each["skipped"])
    return {"cleaned": total | {"tags": len(results), "skipped": dict(skipped)}}


PHASES: Mapping[str, Phase] = {
    "items": ItemsPhase(),
    "locate": JobsPhase(_locate),
    "crop": JobsPhase(_crop),
    "scale": ScalePhase(),
    "cluster": cluster.ClusterPhase(),
    "tally": TallyPhase("cluster", _summary),
}

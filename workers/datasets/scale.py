"""The phase ``scale`` of cleaning: mean and deviation of the features over a sample of all pictures, or regions.

One task for all tags, so that each tag is measured alike, whoever does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ram_core.cleaning import FeatureScale
from storage.database import unit_of_work
from storage.datasets import items, step_jobs, tag_regions, tasks
from storage.results.packing import CODE
from workers.datasets.phase import Phase
from workers.datasets.pictures import Pictures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.datasets.tasks import Task
    from storage.datasets.versions import VersionView
    from workers.datasets.phase import Tools, Write

NAME = "scale"
SAMPLE = 4_000
"""Pictures of which it is computed."""
_PAGE = 500


class ScalePhase(Phase):
    """Computes the scale: one task."""

    def run(self, tools: Tools, version: VersionView, _task: Task) -> Write:
        """Compute the scale. The result has what ``of`` reads."""
        assert version.parent_id is not None
        with unit_of_work(tools.engine) as session:
            ids = items.sample(session, version.parent_id, SAMPLE, version.settings["cleaning"]["seed"])
            crops = crops_generation(session, version)
        is_located = version.settings["cleaning"]["regions"] == "located"
        kind = "crops" if is_located else self._kind(tools, version, ids)
        blocks = _crops(tools, crops, ids) if is_located else _whole(tools, version, kind, ids)
        found = [block for block in blocks if len(block)]
        scale = FeatureScale.of(found) if found else None

        def write(_session: Session) -> dict[str, Any]:
            return {
                "kind": kind,
                "rows": sum(map(len, found)),
                "scale": None if scale is None else _as_json(scale),
                "sample": ids,
            }

        return write

    @staticmethod
    def _kind(tools: Tools, version: VersionView, ids: Sequence[int]) -> str:
        """Return ``kept`` if features are kept of all pictures of the sample that have a record, else ``vector``."""
        kept, every = (Pictures(tools, version.settings["generation_id"], kind) for kind in ("kept", "vector"))
        pages = [ids[start : start + _PAGE] for start in range(0, len(ids), _PAGE)]
        return "kept" if all(kept.known(page).keys() == every.known(page).keys() for page in pages) else "vector"


class Scale(NamedTuple):
    """The kind of features of a version's cleaning, their scale, and the ids of the pictures of the sample, ascending.

    ``kind`` is ``crops``, or as of ``Pictures``. The scale is None if the sample has no features.
    """

    kind: str
    scale: FeatureScale | None
    sample: list[int]


def of(session: Session, version: VersionView) -> Scale:
    """Return what the phase found."""
    [result] = tasks.results(session, version.id, NAME)
    scale = None if result["scale"] is None else _from_json(result["scale"])
    return Scale(result["kind"], scale, result["sample"])


def crops_generation(session: Session, version: VersionView) -> int | None:
    """Return the generation of the regions' vectors: that of the step's jobs."""
    jobs = [job.id for job in step_jobs.of_stage(session, version, "crops")]
    return next(iter(step_jobs.generations(session, jobs)), None)


def _crops(tools: Tools, generation_id: int | None, ids: Sequence[int]) -> Iterator[NDArray[np.float16]]:
    if generation_id is None:
        return
    for start in range(0, len(ids), _PAGE):
        tools.go_on()
        with unit_of_work(tools.engine) as session:
            packed = tag_regions.any_of(session, generation_id, ids[start : start + _PAGE])
        if packed:
            yield np.frombuffer(b"".join(packed), dtype=CODE).reshape(len(packed), -1)


def _whole(tools: Tools, version: VersionView, kind: str, ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    source = Pictures(tools, version.settings["generation_id"], kind)  # type: ignore[arg-type]
    for start in range(0, len(ids), _PAGE):
        tools.go_on()
        yield source.read(ids[start : start + _PAGE])[1]


def _as_json(scale: FeatureScale) -> dict[str, Any]:
    """Return a scale as JSON, which knows no infinity."""
    return {
        "mean": scale.mean.tolist(),
        "deviation": [number if np.isfinite(number) else None for number in scale.deviation.tolist()],
    }


def _from_json(values: Mapping[str, Any]) -> FeatureScale:
    deviation = [np.inf if number is None else number for number in values["deviation"]]
    return FeatureScale(np.array(values["mean"], np.float32), np.array(deviation, np.float32))

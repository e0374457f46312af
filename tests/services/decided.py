"""Data sets whose steps dropped and added tags of the recognised photographs, without the steps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.database import unit_of_work
from storage.datasets import content, tasks, versions
from storage.results import generations
from storage.results.tags import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ramq.wiring import Services
    from storage.datasets.versions import Step

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Label:
    """A tag of a picture, as a step left it. ``reason`` None: kept."""

    image_id: int
    tag: str
    reason: str | None = None
    certainty: float | None = None
    box: Box | None = None
    origins: tuple[str, ...] = ("given",)


def add_version(services: Services, name: str, labels: Sequence[Label], step: Step = "clean") -> int:
    """Add a version that is done to a data set, which is made if it is not there. Return its id."""
    with unit_of_work(services.engine) as session:
        serving = generations.default(session)
        assert serving is not None
        names = load(session, serving.vocabulary_id)
        tags = {label.tag: names.find(label.tag)[0] for label in labels}
        known = versions.views(session, name)
        dataset_id = known[-1].dataset_id if known else versions.create(session, name, serving.vocabulary_id, "local")
        version_id = versions.begin(
            session,
            dataset_id,
            step=step,
            phase="first",
            settings={},
            parent_id=known[-1].id if known else None,
            said_by="local",
        )
        session.execute(
            text(
                """INSERT INTO dataset_item (image_id, version_id, version)
                   SELECT id, :version_id, version FROM image WHERE id = ANY(:ids)"""
            ),
            {"version_id": version_id, "ids": [label.image_id for label in labels]},
        )
        for label in labels:
            session.execute(
                text(
                    """INSERT INTO dataset_label (image_id, version_id, tag_id, origins, reason, certainty, evidence)
                       VALUES (:image_id, :version_id, :tag_id, :origins, :reason, :certainty,
                               CAST(:evidence AS jsonb))"""
                ),
                {
                    "image_id": label.image_id,
                    "version_id": version_id,
                    "tag_id": tags[label.tag],
                    "origins": list(label.origins),
                    "reason": label.reason,
                    "certainty": label.certainty,
                    "evidence": None if label.box is None else json.dumps({"box": label.box}),
                },
            )
        versions.add_counts(session, version_id, content.counts(session, version_id))
        versions.finish(session, version_id, "0" * 64)
        return version_id


def begin_version(services: Services, name: str, tasks_done: int = 0, total: int = 4) -> int:
    """Begin another step of a data set, with tasks of which some are done. Return the version's id."""
    with unit_of_work(services.engine) as session:
        parent = versions.find(session, name)
        version_id = versions.begin(
            session, parent.dataset_id, step="clean", phase="cluster", settings={}, parent_id=parent.id, said_by="local"
        )
        tasks.add(session, version_id, "cluster", [{}] * total)
        versions.set_planned(session, version_id)
    finish_tasks(services, version_id, tasks_done)
    return version_id


def finish_tasks(services: Services, version_id: int, count: int) -> None:
    """End that many tasks of a step."""
    with unit_of_work(services.engine) as session:
        session.execute(
            text(
                """UPDATE dataset_task SET state = 'done', seconds = 1, done_at = now()
                   WHERE version_id = :id AND number <= :n"""
            ),
            {"id": version_id, "n": count},
        )

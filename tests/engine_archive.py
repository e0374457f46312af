"""Data sets whose versions a test writes by itself, and a worker that does their steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.database import unit_of_work
from storage.datasets import items, labels, versions
from storage.datasets.items import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ramq.wiring import Services
    from storage.datasets.labels import Label
    from storage.datasets.versions import VersionView
    from workers.lifecycle import Worker

NAME = "things"


def write_version(
    services: Services, given: Sequence[Label], captions: dict[int, list[str]] | None = None, name: str = NAME
) -> VersionView:
    """Write a first version with these labels on all images, as of the vocabulary that serves search."""
    with unit_of_work(services.engine) as session:
        vocabulary_id = session.scalar(
            text("SELECT vocabulary_id FROM generation WHERE is_default AND stage = 'recognition'")
        )
        dataset_id = versions.create(session, name, vocabulary_id, "local")
        version_id = versions.begin(
            session, dataset_id, step="build", phase="seal", settings={}, parent_id=None, said_by="local"
        )
        rows = session.execute(text("SELECT id, version FROM image WHERE missing_since IS NULL ORDER BY id")).all()
        own = captions or {}
        items.add(
            session,
            version_id,
            [
                Item(r.id, r.version, captions=own.get(r.id, []), origins=["given"] * len(own.get(r.id, [])))
                for r in rows
            ],
        )
        labels.put(session, version_id, given)
        versions.finish(session, version_id, "written by a test")
        return versions.view(session, version_id)


def finish(services: Services, worker: Worker, version: VersionView) -> VersionView:
    """Let a worker work until a step has ended."""
    return until(services, worker, version, lambda seen: seen.state != "running")


def until(
    services: Services, worker: Worker, version: VersionView, is_enough: Callable[[VersionView], bool]
) -> VersionView:
    """Let a worker work until a step is far enough."""
    while not is_enough(seen := view(services, version)):
        turn(worker)
    return seen


def turn(worker: Worker) -> None:
    """Let a worker do once what its threads do."""
    worker._build_datasets()
    worker._list()
    worker.work()


def view(services: Services, version: VersionView) -> VersionView:
    with unit_of_work(services.engine) as session:
        return versions.view(session, version.id)


def stored_labels(services: Services, version: VersionView) -> dict[tuple[int, int], Label]:
    """The labels of a version, by image and tag."""
    with unit_of_work(services.engine) as session:
        found = labels.between(session, version.id, 0, 2**62)
    return {(label.image_id, label.tag_id): label for label in found}


def stored_items(services: Services, version: VersionView) -> dict[int, Item]:
    with unit_of_work(services.engine) as session:
        return {item.image_id: item for item in items.read(session, version.id, 0, 2**62)}

"""Jobs on the pictures of a data set, which a step begins and waits for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage.datasets import versions
from storage.errors import ConflictError
from storage.ledger import jobs
from storage.results import images
from storage.tables import RECOGNITION, Archive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from storage.datasets.versions import VersionView
    from storage.ledger.views import JobView


@dataclass(frozen=True, slots=True)
class Wanted:
    """What jobs of a step do.

    Attributes:
        stage: ``recognition``, or a further stage.
        model: its model.
        captioner: of recognition: the author of captions.
        features: of recognition: what is kept of each image.
        vocabulary_id: of recognition: a vocabulary other than the model's own.
        generation_id: of recognition: only pictures that still have to be recognised for it; None: all.
        options: what a further stage is asked for.
    """

    stage: str
    model: str
    captioner: str = "none"
    features: str = "none"
    vocabulary_id: int | None = None
    generation_id: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def begin(session: Session, version: VersionView, wanted: Wanted) -> list[int]:
    """Begin a job on the pictures of a version's parent for each archive that has some to work on. Return all of them.

    An archive for which the step has a job of this stage already gets no other one. Pictures whose originals are
    missing are left out.
    """
    held = {job.archive: job.id for job in of_stage(session, version, wanted.stage)}
    begun: list[int] = []
    for archive_id, number in _pictures(session, version, wanted).items():
        archive = session.get_one(Archive, archive_id)
        if archive.uri in held or not number:
            continue
        job_id = jobs.create(
            session,
            archive=archive,
            source=archive.uri,
            prefix="",
            model=wanted.model,
            captioner=wanted.captioner,
            priority="normal",
            features=wanted.features,
            vocabulary_id=wanted.vocabulary_id,
            stage=wanted.stage,
            query=f"data set {version.name}, version {version.number}",
            options=wanted.options,
            said_by=version.said_by,
        )
        _name(session, job_id, archive_id, version, wanted)
        begun.append(job_id)
    versions.add_jobs(session, version.id, begun)
    return sorted([*held.values(), *begun])


def of_stage(session: Session, version: VersionView, stage: str) -> list[JobView]:
    """Return the jobs of a stage that a step has begun, as they are now. Those whose archive was removed are gone."""
    every = [jobs.view(session, job_id) for job_id in jobs.states(session, version.job_ids)]
    return [job for job in every if job.stage == stage]


def waits_for(session: Session, job_ids: list[int]) -> str | None:
    """Return which jobs have not ended yet, and how far they are, in words; None: all have.

    Raises:
        ConflictError: one of them failed or was cancelled.
    """
    views = [jobs.view(session, job_id) for job_id in job_ids]
    for job in views:
        if job.state == "failed":
            raise ConflictError(f"job {job.id} ({job.stage}) failed: {job.note}; resume the step to try it again")
        if job.state == "cancelled":
            raise ConflictError(f"job {job.id} ({job.stage}) was cancelled; resume the step to begin it again")
    return "; ".join(_told(job) for job in views if not job.is_over) or None


def generations(session: Session, job_ids: list[int]) -> list[int]:
    """Return the generations to which jobs wrote, newest first."""
    rows = session.scalars(
        text(
            """SELECT DISTINCT generation_id FROM job WHERE id = ANY(:ids) AND generation_id IS NOT NULL
               ORDER BY generation_id DESC"""
        ),
        {"ids": job_ids},
    )
    return list(rows)


def _told(job: JobView) -> str:
    decided = job.done + job.failed + job.skipped
    progress = f"{decided:,} of {job.listed:,} images" if job.listed else "not listed yet"
    left = f", about {max(1, round(job.eta_seconds / 60)):,} min left" if job.eta_seconds is not None else ""
    about = f"; {job.note}" if job.note else ""
    paused = f", paused: `ramq resume {job.id}`" if job.state == "paused" else ""
    return f"waits for job {job.id} ({job.stage}): {progress}{left}{paused}{about}"


_CHOSEN = """
    FROM dataset_item AS item JOIN image ON image.id = item.image_id
    WHERE item.version_id = :parent_id AND image.missing_since IS NULL AND {condition}
"""
_HAS_TAGS = """EXISTS (SELECT FROM dataset_label AS label WHERE label.version_id = :parent_id
    AND label.image_id = item.image_id AND label.reason IS NULL)"""
"""A further stage looks for tags: a picture without any needs none of it."""


def _chosen(wanted: Wanted) -> str:
    if wanted.stage != RECOGNITION:
        return _CHOSEN.format(condition=_HAS_TAGS)
    return _CHOSEN.format(condition="true" if wanted.generation_id is None else images.IS_PENDING)


def _values(version: VersionView, wanted: Wanted) -> dict[str, Any]:
    recognising = {
        "generation_id": wanted.generation_id,
        "captioner": wanted.captioner,
        "features": "none",  # a picture is not recognised again for the sake of its features
    }
    is_bound = wanted.stage == RECOGNITION and wanted.generation_id is not None
    return {"parent_id": version.parent_id} | (recognising if is_bound else {})


def _pictures(session: Session, version: VersionView, wanted: Wanted) -> dict[int, int]:
    rows = session.execute(
        text(
            f"""SELECT image.archive_id, count(*) AS number {_chosen(wanted)}
                GROUP BY image.archive_id ORDER BY image.archive_id"""
        ),
        _values(version, wanted),
    )
    return {row.archive_id: row.number for row in rows}


def _name(session: Session, job_id: int, archive_id: int, version: VersionView, wanted: Wanted) -> None:
    session.execute(
        text(
            f"""INSERT INTO naming (job_id, image_id) SELECT :job_id, image.id {_chosen(wanted)}
                AND image.archive_id = :archive_id"""
        ),
        _values(version, wanted) | {"job_id": job_id, "archive_id": archive_id},
    )

"""What is recorded of images by a stage other than recognition, whatever its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import JSONB

from storage.results.features import RecordedPage
from storage.results.metadata import STAGE as METADATA
from storage.results.partitions import TABLES, partition, results
from storage.tables import RECOGNITION, Generation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.tables import Job


_IS_READY = {
    "crops": """EXISTS (SELECT FROM located_image JOIN localization USING (image_id, generation_id)
        WHERE located_image.image_id = image.id AND localization.version = image.version)"""
}
"""What a stage needs of an ``image``, by stage: regions that were located in its current bytes."""

_IS_UP_TO_DATE = {
    "crops": """EXISTS (SELECT FROM located_image
        WHERE located_image.image_id = image.id AND located_image.xid = own.regions_xid)"""
}
"""Whether a stage's ``own`` result is of what it was made from, by stage: the regions of the image did not change."""

_RECORDED = """EXISTS (SELECT FROM record JOIN generation ON generation.id = record.generation_id
    AND generation.is_default AND generation.stage = 'recognition' WHERE record.image_id = image.id)"""
_SAMPLE = 200
"""Images whose tags are counted to say how many there are in each."""


def pending(session: Session, stage: str, generation_id: int, image_ids: Sequence[int], job_id: int) -> list[int]:
    """Return, in the same order, those of these images on which a job still has to work.

    This excludes images with a result of the same version and generation, from a job that asked for the same, and those
    whose current bytes were found unusable before.
    """
    rows = session.execute(
        text(
            f"""SELECT image.id FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS wanted (id, number)
                JOIN image USING (id) WHERE {_is_pending(stage)} ORDER BY wanted.number"""  # noqa: S608  (constants)
        ),
        {"generation_id": generation_id, "ids": list(image_ids), "job_id": job_id},
    )
    return list(rows.scalars())


def page(  # noqa: PLR0913  (the conditions of one query)
    session: Session,
    *,
    stage: str,
    generation_id: int,
    archive_id: int,
    prefix: str,
    job_id: int,
    is_named: bool,
    after: int,
    limit: int,
) -> RecordedPage:
    """Return the next images that a stage works on, in order of their ids, and those on which it still has to.

    Args:
        session: a transaction.
        stage: the stage.
        generation_id: its generation.
        archive_id: only images of this archive.
        prefix: only keys that begin so.
        job_id: the job.
        is_named: only images that the job has named (table ``naming``). If not: those that the serving generation of
            recognition has recorded.
        after: the last image of the previous page; 0 at first.
        limit: images at most.
    """
    known = (
        "EXISTS (SELECT FROM naming WHERE naming.job_id = :job_id AND naming.image_id = image.id)"
        if is_named
        else _RECORDED
    )
    is_ready = _IS_READY.get(stage, "true")
    rows = session.execute(
        text(
            f"""SELECT image.id, {_is_pending(stage)} AS is_pending FROM image
                WHERE image.id > :after AND image.archive_id = :archive_id AND starts_with(image.key, :prefix)
                  AND image.missing_since IS NULL AND {known} AND {is_ready} ORDER BY image.id LIMIT :limit"""  # noqa: S608
        ),
        {
            "generation_id": generation_id,
            "archive_id": archive_id,
            "prefix": prefix,
            "job_id": job_id,
            "after": after,
            "limit": limit,
        },
    ).all()
    return RecordedPage([row.id for row in rows], [row.id for row in rows if row.is_pending])


@dataclass(frozen=True, slots=True)
class Work:
    """What a job over some images would do. ``sample``: ids of some of those on which it would work."""

    images: int
    pending: int
    sample: list[int]


def work(  # noqa: PLR0913  (the conditions of one query)
    session: Session,
    *,
    stage: str,
    generation_id: int | None,
    options: Mapping[str, Any],
    archive_id: int,
    prefix: str,
    named: Sequence[int] | None,
) -> Work:
    """Return how many images a job would list, and on how many it would work.

    Args:
        session: a transaction.
        stage: the stage.
        generation_id: its generation; None: nothing is done yet.
        options: what the job would ask for.
        archive_id: only images of this archive.
        prefix: only keys that begin so.
        named: only these images; None: those that the serving generation of recognition has recorded.
    """
    known = _RECORDED if named is None else "image.id = ANY(:named)"
    listed = f"""FROM image WHERE image.archive_id = :archive_id AND starts_with(image.key, :prefix)
        AND image.missing_since IS NULL AND {known} AND {_IS_READY.get(stage, "true")}"""
    values = {
        "archive_id": archive_id,
        "prefix": prefix,
        "named": list(named or ()),
        # No generation has the number -1.
        "generation_id": -1 if generation_id is None else generation_id,
        "options": dict(options),
    }

    def counted(condition: str) -> tuple[int, list[int]]:
        # As a condition of WHERE, what is pending is found with joins, and not image by image.
        statement = f"""WITH found AS MATERIALIZED (SELECT image.id {listed} {condition})
            SELECT count(*) AS number, ARRAY(SELECT id FROM found ORDER BY id LIMIT {_SAMPLE}) AS sample FROM found"""  # noqa: S608
        row = session.execute(text(statement).bindparams(bindparam("options", type_=JSONB)), values).one()
        return row.number, row.sample

    every, some = counted("AND CAST(:options AS jsonb) IS NOT NULL")
    pending, left = counted(f"AND {_is_pending(stage, ':options')}")
    return Work(every, pending, left or some)


@dataclass(frozen=True, slots=True)
class StageGeneration:
    """What made results of a stage. ``images``: how many have one; ``is_default``: search uses it."""

    id: int
    stage: str
    model: str
    weights_sha256: str
    preprocessing: str
    images: int
    is_default: bool
    created_at: datetime


def generations(session: Session) -> list[StageGeneration]:
    """Return the generations of all stages but recognition that were not dropped, oldest first."""
    rows = session.scalars(
        select(Generation)
        .where(Generation.stage != RECOGNITION, Generation.dropped_at.is_(None))
        .order_by(Generation.id)
    )
    return [
        StageGeneration(
            row.id,
            row.stage,
            row.model,
            row.weights_sha256,
            row.preprocessing,
            results(session, row.stage, row.id),
            row.is_default,
            row.created_at,
        )
        for row in rows
    ]


def done_by(session: Session, job: Job) -> NDArray[np.int64]:
    """Return the ids, ascending, of the images whose results a job of a further stage wrote."""
    if job.generation_id is None:
        return np.empty(0, dtype=np.int64)
    table = METADATA if job.stage == METADATA else partition(TABLES[job.stage][0], job.generation_id)
    found = session.scalars(text(f"SELECT image_id FROM {table} WHERE job_id = :id ORDER BY 1"), {"id": job.id})  # noqa: S608  (constants)
    return np.array(found.all(), dtype=np.int64)


def is_any_recorded(session: Session, archive_id: int, prefix: str, stage: str) -> bool:
    """Return whether a stage could work on an image whose key begins with ``prefix``.

    The serving generation of recognition must have recorded it, and it must have what the stage needs.
    """
    return bool(
        session.scalar(
            text(
                f"""SELECT EXISTS (SELECT FROM image JOIN record ON record.image_id = image.id
                    JOIN generation ON generation.id = record.generation_id AND generation.is_default
                    WHERE image.archive_id = :archive_id AND starts_with(image.key, :prefix)
                    AND image.missing_since IS NULL AND {_IS_READY.get(stage, "true")})"""  # noqa: S608  (constants)
            ),
            {"archive_id": archive_id, "prefix": prefix},
        )
    )


def _is_pending(stage: str, options: str = "(SELECT options FROM job WHERE id = :job_id)") -> str:
    """Return the condition that an image has no result yet. ``options``: what the job asks for, as SQL."""
    if stage == METADATA:  # whatever read the file, unless it shall be read again
        is_missing = f"""(NOT EXISTS (SELECT FROM metadata AS own
            WHERE own.image_id = image.id AND own.version = image.version) OR {options} ? 'again')"""
    else:
        is_missing = f"""NOT EXISTS (SELECT FROM {TABLES[stage][0]} AS own
            WHERE own.image_id = image.id AND own.generation_id = :generation_id
            AND own.version = image.version AND {_IS_UP_TO_DATE.get(stage, "true")}
            AND own.job_id IN (SELECT former.id FROM job AS former WHERE former.options = {options}))"""  # noqa: S608
    return f"""{is_missing}
        AND NOT EXISTS (SELECT FROM failure WHERE failure.image_id = image.id
            AND failure.generation_id = :generation_id AND failure.version = image.version
            AND failure.about_content AND NOT failure.retrying)
    """

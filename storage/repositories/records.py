"""What images yielded: records with their vectors, or failures, a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.database import driver_connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class RecordRow:
    """One image's results. ``scores`` are in units of ``1 / SCORE_SCALE``; ``vector`` is packed float16."""

    image_id: int
    version: str
    tags: Sequence[int]
    scores: Sequence[int]
    caption: str | None
    width: int
    height: int
    vector: bytes


@dataclass(frozen=True, slots=True)
class FailureRow:
    """Why one image has no result."""

    image_id: int
    version: str
    error_class: str
    about_content: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which job and generation the rows of a batch belong to."""

    job_id: int
    generation_id: int
    captioner: str


def lock_existing(session: Session, image_ids: Sequence[int]) -> set[int]:
    """Return which of these images still exist, and keep them from being deleted until the transaction ends."""
    rows = session.execute(
        text("SELECT id FROM image WHERE id = ANY(:ids) ORDER BY id FOR KEY SHARE"), {"ids": list(image_ids)}
    )
    return set(rows.scalars())


def write_records(session: Session, rows: Sequence[RecordRow], provenance: Provenance) -> None:
    """Store results, replacing those of the same image and generation; writing the same twice changes nothing."""
    if not rows:
        return
    session.execute(
        text(
            """CREATE TEMP TABLE IF NOT EXISTS recognised (image_id bigint, version text, tags smallint[],
               scores smallint[], caption text, width int, height int, v bytea) ON COMMIT DELETE ROWS"""
        )
    )
    with (
        driver_connection(session).cursor() as cursor,
        cursor.copy(
            "COPY recognised (image_id, version, tags, scores, caption, width, height, v) FROM STDIN (FORMAT binary)"
        ) as copy,
    ):
        copy.set_types(["int8", "text", "int2[]", "int2[]", "text", "int4", "int4", "bytea"])
        for row in rows:
            copy.write_row(
                (row.image_id, row.version, row.tags, row.scores, row.caption, row.width, row.height, row.vector)
            )
    values = {
        "job_id": provenance.job_id,
        "generation_id": provenance.generation_id,
        "captioner": provenance.captioner,
    }
    # Ordered by id, so that two workers with some images in common cannot wait for each other in a ring.
    session.execute(
        text(
            """
            INSERT INTO record
                (image_id, generation_id, job_id, version, tags, scores, caption, captioner, width, height)
            SELECT image_id, :generation_id, :job_id, version, tags, scores, caption, :captioner, width, height
            FROM recognised ORDER BY image_id
            ON CONFLICT (image_id, generation_id) DO UPDATE SET job_id = excluded.job_id, version = excluded.version,
                tags = excluded.tags, scores = excluded.scores, caption = excluded.caption,
                captioner = excluded.captioner, width = excluded.width, height = excluded.height, recorded_at = now()
            WHERE (record.job_id, record.version, record.tags, record.scores, record.caption, record.captioner)
                IS DISTINCT FROM (excluded.job_id, excluded.version, excluded.tags, excluded.scores, excluded.caption,
                    excluded.captioner)
            """
        ),
        values,
    )
    session.execute(
        text(
            """
            INSERT INTO vector (image_id, generation_id, v) SELECT image_id, :generation_id, v
            FROM recognised ORDER BY image_id
            ON CONFLICT (image_id, generation_id) DO UPDATE SET v = excluded.v, xid = pg_current_xact_id()
            WHERE vector.v IS DISTINCT FROM excluded.v
            """
        ),
        values,
    )
    # An object that changed after it was listed was recorded as it is now.
    session.execute(
        text(
            """UPDATE image SET version = recognised.version FROM recognised
               WHERE image.id = recognised.image_id AND image.version <> recognised.version"""
        )
    )
    session.execute(
        text(
            """DELETE FROM failure USING recognised
               WHERE failure.job_id = :job_id AND failure.image_id = recognised.image_id"""
        ),
        values,
    )


def write_failures(session: Session, rows: Sequence[FailureRow], provenance: Provenance) -> None:
    """Store why images failed; a second failure of the same image in the same job counts its attempts up."""
    if not rows:
        return
    session.execute(
        text(
            """
            INSERT INTO failure (job_id, image_id, generation_id, version, error_class, about_content, detail, attempts)
            VALUES (:job_id, :image_id, :generation_id, :version, :error_class, :about_content, :detail, 1)
            ON CONFLICT (job_id, image_id) DO UPDATE SET version = excluded.version,
                error_class = excluded.error_class, about_content = excluded.about_content, detail = excluded.detail,
                attempts = failure.attempts + 1, retrying = false, failed_at = now()
            """
        ),
        [
            {
                "job_id": provenance.job_id,
                "generation_id": provenance.generation_id,
                "image_id": row.image_id,
                "version": row.version,
                "error_class": row.error_class,
                "about_content": row.about_content,
                "detail": row.detail.replace("\x00", "\\0")[:500],
            }
            for row in sorted(rows, key=lambda row: row.image_id)
        ],
    )

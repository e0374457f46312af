"""What images yielded: records with their vectors, or failures, a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.repositories import vectors

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
    """Which job and generation the rows of a batch belong to, and whether they come from the objects as they are."""

    job_id: int
    generation_id: int
    captioner: str
    reads_archive: bool = True


def lock_existing(session: Session, image_ids: Sequence[int]) -> set[int]:
    """Return which of these images still exist, and keep them from being deleted until the transaction ends."""
    rows = session.execute(
        text("SELECT id FROM image WHERE id = ANY(:ids) ORDER BY id FOR KEY SHARE"), {"ids": list(image_ids)}
    )
    return set(rows.scalars())


def write_records(session: Session, rows: Sequence[RecordRow], provenance: Provenance) -> None:
    """Store results, replacing those of the same image and generation; writing the same twice changes nothing.

    Tables are written in the order image, record, vector, failure, and each of them in order of id, so that
    transactions with some images in common cannot wait for each other in a ring.
    """
    if not rows:
        return
    ordered = sorted(rows, key=lambda row: row.image_id)
    ids = [row.image_id for row in ordered]
    if provenance.reads_archive:
        _note_versions(session, ids, [row.version for row in ordered])
    changed = _upsert_records(session, ordered, ids, provenance)
    vectors.upsert(session, provenance.generation_id, ids, [row.vector for row in ordered], changed)
    session.execute(
        text("DELETE FROM failure WHERE job_id = :job_id AND image_id = ANY(:ids)"),
        {"job_id": provenance.job_id, "ids": ids},
    )


def _note_versions(session: Session, ids: Sequence[int], versions: Sequence[str]) -> None:
    """Note that objects which changed after they were listed were recorded as they are now."""
    changed = session.execute(
        text(
            """
            SELECT image.id, recorded.version
            FROM unnest(CAST(:ids AS bigint[]), CAST(:versions AS text[])) AS recorded (id, version)
            JOIN image ON image.id = recorded.id AND image.version <> recorded.version
            ORDER BY image.id FOR NO KEY UPDATE OF image
            """
        ),
        {"ids": ids, "versions": versions},
    ).all()
    if changed:
        session.execute(
            text("UPDATE image SET version = :version WHERE id = :id"),
            [{"id": row.id, "version": row.version} for row in changed],
        )


def _upsert_records(
    session: Session, rows: Sequence[RecordRow], ids: Sequence[int], provenance: Provenance
) -> list[int]:
    """Return the images whose record is new or another than before."""
    changed = session.execute(
        text(
            """
            INSERT INTO record
                (image_id, generation_id, job_id, version, tags, scores, caption, captioner, width, height)
            SELECT image_id, :generation_id, :job_id, version, CAST(tags AS smallint[]), CAST(scores AS smallint[]),
                caption, :captioner, width, height
            FROM unnest(CAST(:ids AS bigint[]), CAST(:versions AS text[]), CAST(:tags AS text[]),
                CAST(:scores AS text[]), CAST(:captions AS text[]), CAST(:widths AS int[]), CAST(:heights AS int[]))
                AS recognised (image_id, version, tags, scores, caption, width, height)
            ORDER BY image_id
            ON CONFLICT (image_id, generation_id) DO UPDATE SET job_id = excluded.job_id, version = excluded.version,
                tags = excluded.tags, scores = excluded.scores, caption = excluded.caption,
                captioner = excluded.captioner, width = excluded.width, height = excluded.height, recorded_at = now()
            WHERE (record.job_id, record.version, record.tags, record.scores, record.caption, record.captioner)
                IS DISTINCT FROM (excluded.job_id, excluded.version, excluded.tags, excluded.scores, excluded.caption,
                    excluded.captioner)
            RETURNING image_id
            """
        ),
        {
            "job_id": provenance.job_id,
            "generation_id": provenance.generation_id,
            "captioner": provenance.captioner,
            "ids": ids,
            "versions": [row.version for row in rows],
            # Arrays of arrays would have to be of one length, so each is written as Postgres' text of an array.
            "tags": [_array(row.tags) for row in rows],
            "scores": [_array(row.scores) for row in rows],
            "captions": [row.caption for row in rows],
            "widths": [row.width for row in rows],
            "heights": [row.height for row in rows],
        },
    )
    return list(changed.scalars())


def _array(numbers: Sequence[int]) -> str:
    return f"{{{','.join(map(str, numbers))}}}"


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

"""Results of images: records with their vectors, or failures, one batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage.database import driver_connection
from storage.results import vectors
from storage.tables import PRECISIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psycopg
    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class RecordRow:
    """One image's results. ``scores`` are in units of ``1 / SCORE_SCALE``; ``vector`` is packed float16.

    ``sha256`` is that of the bytes that were recognised, ``precision`` one of ``PRECISIONS``; None: not known.
    """

    image_id: int
    version: str
    tags: Sequence[int]
    scores: Sequence[int]
    caption: str | None
    width: int
    height: int
    vector: bytes
    sha256: bytes | None = None
    precision: str | None = None


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
    """The job and generation of a batch's rows, and the author of the captions."""

    job_id: int
    generation_id: int
    captioner: str


def lock_existing(session: Session, image_ids: Sequence[int]) -> dict[int, str]:
    """Return the versions of the images that still exist. Keep them from being deleted in this transaction."""
    rows = driver_connection(session).execute(
        "SELECT id, version FROM image WHERE id = ANY(CAST(%(ids)b AS bigint[])) ORDER BY id FOR KEY SHARE",
        {"ids": list(image_ids)},
        prepare=True,
    )
    return dict(rows.fetchall())


def note_versions(session: Session, listed: Mapping[int, str], recorded: Mapping[int, str]) -> None:
    """Update the versions of objects that changed between being ``listed`` and ``recorded``. Both are by image."""
    changed = sorted(image_id for image_id, version in recorded.items() if listed.get(image_id, version) != version)
    if not changed:
        return
    session.execute(
        text(
            """
            WITH held AS (
                SELECT image.id, recorded.version
                FROM unnest(CAST(:ids AS bigint[]), CAST(:versions AS text[])) AS recorded (id, version)
                JOIN image USING (id) ORDER BY image.id FOR NO KEY UPDATE OF image
            )
            UPDATE image SET version = held.version FROM held WHERE image.id = held.id
            """
        ),
        {"ids": changed, "versions": [recorded[image_id] for image_id in changed]},
    )


def write_records(session: Session, rows: Sequence[RecordRow], provenance: Provenance) -> None:
    """Store results. They replace those of the same image and generation. Storing the same twice changes nothing.

    The caller has locked the images. Tables are written in the order record, failure, vector, and rows in order of id.
    This keeps transactions with common images from deadlocking.
    """
    if not rows:
        return
    ordered = sorted(rows, key=lambda row: row.image_id)
    ids = [row.image_id for row in ordered]
    connection = driver_connection(session)
    _upsert_records(connection, ordered, ids, provenance)
    vectors.upsert(connection, provenance.generation_id, ids, [row.vector for row in ordered])


def _upsert_records(
    connection: psycopg.Connection[Any], rows: Sequence[RecordRow], ids: Sequence[int], provenance: Provenance
) -> None:
    connection.execute(
        """
        WITH mended AS (DELETE FROM failure WHERE job_id = %(job_id)s AND image_id = ANY(%(ids)b))
        INSERT INTO record
            (image_id, generation_id, job_id, version, tags, scores, caption, captioner, width, height,
                sha256, precision)
        SELECT image_id, %(generation_id)s, %(job_id)s, version, CAST(tags AS smallint[]), CAST(scores AS smallint[]),
            caption, %(captioner)s, width, height, sha256, precision
        FROM unnest(CAST(%(ids)b AS bigint[]), CAST(%(versions)b AS text[]), CAST(%(tags)b AS text[]),
            CAST(%(scores)b AS text[]), CAST(%(captions)b AS text[]), CAST(%(widths)b AS int[]),
            CAST(%(heights)b AS int[]), CAST(%(sha256s)b AS bytea[]), CAST(%(precisions)b AS smallint[]))
            AS recognised (image_id, version, tags, scores, caption, width, height, sha256, precision)
        ORDER BY image_id
        ON CONFLICT (image_id, generation_id) DO UPDATE SET job_id = excluded.job_id, version = excluded.version,
            tags = excluded.tags, scores = excluded.scores, caption = excluded.caption,
            captioner = excluded.captioner, width = excluded.width, height = excluded.height,
            sha256 = excluded.sha256, precision = excluded.precision, recorded_at = now()
        WHERE (record.job_id, record.version, record.tags, record.scores, record.caption, record.captioner,
                record.sha256, record.precision)
            IS DISTINCT FROM (excluded.job_id, excluded.version, excluded.tags, excluded.scores, excluded.caption,
                excluded.captioner, excluded.sha256, excluded.precision)
        """,
        {
            "job_id": provenance.job_id,
            "generation_id": provenance.generation_id,
            "captioner": provenance.captioner,
            "ids": ids,
            "versions": [row.version for row in rows],
            # Arrays of arrays must have equal lengths, so each array is written in PostgreSQL's text form.
            "tags": [_array(row.tags) for row in rows],
            "scores": [_array(row.scores) for row in rows],
            "captions": [row.caption for row in rows],
            "widths": [row.width for row in rows],
            "heights": [row.height for row in rows],
            "sha256s": [row.sha256 for row in rows],
            "precisions": [None if row.precision is None else PRECISIONS.index(row.precision) for row in rows],
        },
        prepare=True,
    )


def _array(numbers: Sequence[int]) -> str:
    return f"{{{','.join(map(str, numbers))}}}"


def write_failures(session: Session, rows: Sequence[FailureRow], provenance: Provenance) -> None:
    """Store why images failed. A second failure of the same image in the same job increments its attempts."""
    if not rows:
        return
    ordered = sorted(rows, key=lambda row: row.image_id)
    session.execute(
        text(
            """
            INSERT INTO failure (job_id, image_id, generation_id, version, error_class, about_content, detail, attempts)
            SELECT :job_id, image_id, :generation_id, version, error_class, about_content, detail, 1
            FROM unnest(CAST(:ids AS bigint[]), CAST(:versions AS text[]), CAST(:classes AS text[]),
                CAST(:about_content AS boolean[]), CAST(:details AS text[]))
                AS failed (image_id, version, error_class, about_content, detail)
            ORDER BY image_id
            ON CONFLICT (job_id, image_id) DO UPDATE SET version = excluded.version,
                error_class = excluded.error_class, about_content = excluded.about_content, detail = excluded.detail,
                attempts = failure.attempts + 1, retrying = false, failed_at = now()
            """
        ),
        {
            "job_id": provenance.job_id,
            "generation_id": provenance.generation_id,
            "ids": [row.image_id for row in ordered],
            "versions": [row.version for row in ordered],
            "classes": [row.error_class for row in ordered],
            "about_content": [row.about_content for row in ordered],
            "details": [row.detail.replace("\x00", "\\0")[:500] for row in ordered],
        },
    )

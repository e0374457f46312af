"""The keys that a job has to look at, if it lists nothing else: those that events named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.objects.pages import IS_PAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session


def expand_folders(session: Session, job_id: int, archive_id: int, most: int) -> bool:
    """Replace the keys that end in a slash by the known keys below. Return False if these are more than ``most``.

    Such a key stands for a folder that was deleted or moved: what was in it is looked at, images and sidecars. Pages of
    files are not: they follow their file.
    """
    folders = session.scalars(
        text("DELETE FROM job_key WHERE job_id = :job_id AND key LIKE '%/' RETURNING key"), {"job_id": job_id}
    ).all()
    if not folders:
        return True
    added = session.scalar(
        text(
            f"""
            WITH known AS (
                SELECT image.key FROM unnest(CAST(:folders AS text[])) AS folder (key)
                JOIN image ON image.archive_id = :archive_id AND image.key >= folder.key COLLATE "C"
                    AND image.key < left(folder.key, -1) || '0' COLLATE "C" AND image.missing_since IS NULL
                    AND NOT {IS_PAGE}
                UNION ALL
                SELECT sidecar.key FROM unnest(CAST(:folders AS text[])) AS folder (key)
                JOIN sidecar ON sidecar.archive_id = :archive_id AND sidecar.key >= folder.key COLLATE "C"
                    AND sidecar.key < left(folder.key, -1) || '0' COLLATE "C"
                LIMIT :limit
            ), added AS (
                INSERT INTO job_key (job_id, key) SELECT DISTINCT CAST(:job_id AS bigint), key FROM known
                ON CONFLICT DO NOTHING
            )
            SELECT count(*) FROM known
            """  # noqa: S608  (a constant)
        ),
        {"folders": list(folders), "archive_id": archive_id, "job_id": job_id, "limit": most + 1},
    )
    return int(added or 0) <= most


def after(session: Session, job_id: int, key: str | None, limit: int) -> Sequence[str]:
    """Return the next keys of a job, in byte order. ``key``: the last one that was looked at; None: none was."""
    return session.scalars(
        text(
            """SELECT key FROM job_key WHERE job_id = :job_id AND key > CAST(:key AS text) COLLATE "C"
               ORDER BY key LIMIT :limit"""
        ),
        {"job_id": job_id, "key": key or "", "limit": limit},
    ).all()


def forget(session: Session, job_id: int) -> None:
    """Delete the keys of a job: all of them were looked at."""
    session.execute(text("DELETE FROM job_key WHERE job_id = :job_id"), {"job_id": job_id})


def mark_missing(session: Session, archive_id: int, keys: Sequence[str]) -> int:
    """Mark the images of these keys as missing, of those that are known. Return how many were not missing before.

    The caller holds the archive's lock: see ``images.upsert_page``.
    """
    result = session.execute(
        text(
            """UPDATE image SET missing_since = now()
               WHERE archive_id = :archive_id AND key = ANY(:keys) AND missing_since IS NULL"""
        ),
        {"archive_id": archive_id, "keys": list(keys)},
    )
    return int(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult

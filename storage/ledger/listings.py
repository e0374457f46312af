"""What a listing records besides the images: skipped images, images named before, missing images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.objects.base import UNREADABLE_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session


def add_skipped(session: Session, job_id: int, image_ids: Sequence[int]) -> None:
    """Record which images of a page the job need not recognise."""
    if image_ids:
        session.execute(
            text(
                """INSERT INTO skip (job_id, image_ids)
                   SELECT :job_id, range_agg(int8range(id, id, '[]')) FROM unnest(CAST(:ids AS bigint[])) AS id"""
            ),
            {"job_id": job_id, "ids": list(image_ids)},
        )


def name_first(session: Session, job_id: int, image_ids: Sequence[int]) -> set[int]:
    """Return those of ``image_ids`` that the job's manifest had not named before, and remember them."""
    rows = session.execute(
        text(
            """INSERT INTO naming (job_id, image_id) SELECT :job_id, unnest(CAST(:ids AS bigint[]))
               ON CONFLICT DO NOTHING RETURNING image_id"""
        ),
        {"job_id": job_id, "ids": list(image_ids)},
    )
    return set(rows.scalars())


def forget_named(session: Session, job_id: int) -> None:
    """Delete what ``name_first`` remembered: the manifest has been read completely."""
    session.execute(text("DELETE FROM naming WHERE job_id = :job_id"), {"job_id": job_id})


def count_there(session: Session, archive_id: int, prefix: str) -> int:
    """Return how many images below a prefix of an archive existed when it was last listed."""
    there = ["archive_id = :archive_id", "missing_since IS NULL", *_below(prefix)]
    count = session.scalar(
        text(f"SELECT count(*) FROM image WHERE {' AND '.join(there)}"),  # noqa: S608  (built from constants)
        {"archive_id": archive_id, "prefix": prefix.strip("/")},
    )
    return int(count or 0)


def _below(prefix: str) -> list[str]:
    """Return the conditions on a key that is ``prefix`` or below it; none for the whole archive.

    Contains only the bounds that apply. With an "or none" in it, a prepared statement would read the whole archive.
    """
    return (
        ["key >= :prefix", "key < :prefix || '0'", "(key = :prefix OR key >= :prefix || '/')"]
        if prefix.strip("/")
        else []
    )


def ask_whether_gone(session: Session, job_id: int, note: str) -> bool:
    """Pause a job whose listing found nothing, to ask a person. Return False if it was already resumed after that."""
    return bool(
        session.scalar(
            text(
                """UPDATE job SET state = 'paused', note = :note, found_nothing_at = now(), list_lease_until = NULL
                   WHERE id = :id AND found_nothing_at IS NULL RETURNING true"""
            ),
            {"id": job_id, "note": note},
        )
    )


def mark_missing(session: Session, archive_id: int, prefix: str, after: str | None, until: str | None) -> int:
    """Mark the known keys of a range of a listing that were not found. Return how many.

    Keys in a folder that could not be read are not marked: their state is unknown.

    Args:
        session: has the page of the range in the temporary table ``listed`` (see ``images.upsert_page``).
        archive_id: the listed archive.
        prefix: the listed part: this key and those below it.
        after: the last key of the previous page; None at the beginning.
        until: the last key of the page; None at the end of the listing.
    """
    bounds = [
        "key > :after" if after is not None else "",
        "key <= :until" if until is not None else "",
        *_below(prefix),
    ]
    within = " AND ".join(filter(None, bounds)) or "true"
    result = session.execute(
        text(
            f"""
            WITH gone AS MATERIALIZED (
                SELECT id, key FROM image
                WHERE archive_id = :archive_id AND missing_since IS NULL AND {within}
                  AND NOT EXISTS (SELECT FROM listed WHERE listed.key = image.key)
            )
            UPDATE image SET missing_since = now() FROM gone
            WHERE image.id = gone.id AND NOT EXISTS (
                -- Looked up by name; OFFSET keeps it from becoming a join, which would read all keys of the archive.
                SELECT FROM image AS folder
                WHERE folder.archive_id = :archive_id AND folder.version = :unreadable AND folder.key = ANY (ARRAY(
                    SELECT array_to_string(parts[1:depth], '/') || '/'
                    FROM string_to_array(gone.key, '/') AS parts, generate_series(1, cardinality(parts) - 1) AS depth
                ))
                OFFSET 0
            )
            """  # noqa: S608  (built from constants)
        ),
        {
            "archive_id": archive_id,
            "prefix": prefix.strip("/"),
            "after": after,
            "until": until,
            "unreadable": UNREADABLE_VERSION,
        },
    )
    return int(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult

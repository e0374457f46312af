"""What a listing did not find: known keys are marked as missing, and a person is asked if nothing at all was found.

Where keys come in the order of their bytes, what a page skips is gone: so each page is marked as it is listed. Some
stores have an order of their own, or none. There, what a page skips may come later, so keys are marked at the end, by
what the whole listing found (``settle``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.objects.base import UNREADABLE_VERSION, ObjectInfo
from storage.objects.pages import FILE_KEY, IS_PAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

_FOUND = """
    INSERT INTO listed (key)
    SELECT image.key FROM (
        SELECT unnest(image_ids) AS id FROM shard WHERE job_id = :job_id
        UNION ALL
        SELECT generate_series(lower(run), upper(run) - 1) FROM skip, unnest(image_ids) AS run WHERE job_id = :job_id
    ) AS found JOIN image USING (id)
    UNION ALL SELECT unnest(keys) FROM ignored WHERE job_id = :job_id
"""

# Only a job that found out may have marked what it found later. Since then nothing is marked before the end.
_FALSELY_MARKED = """
    UPDATE image SET missing_since = NULL FROM job JOIN archive ON archive.id = job.archive_id
    WHERE job.id = :job_id AND archive.disordered_at >= job.started_at AND image.archive_id = archive.id
      AND image.missing_since >= job.started_at AND image.key IN (SELECT key FROM listed)
    RETURNING image.id
"""


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
                """UPDATE job SET state = 'paused', note = :note, found_nothing_at = now()
                   WHERE id = :id AND found_nothing_at IS NULL RETURNING true"""
            ),
            {"id": job_id, "note": note},
        )
    )


def mark_missing(  # noqa: PLR0913  (the bounds of a range)
    session: Session,
    archive_id: int,
    prefix: str,
    after: str | None,
    until: str | None,
    ignored: Sequence[ObjectInfo] = (),
    *,
    job_id: int | None = None,
) -> int:
    """Mark the known keys of a range of a listing that were not found. Return how many.

    Keys in a folder that could not be read are not marked: their state is unknown. Keys that the job leaves out stay as
    they are. Pages of files are not listed: they are missing if their file is.

    Args:
        session: has the page of the range in the temporary table ``listed`` (see ``images.upsert_page``).
        archive_id: the listed archive.
        prefix: the listed part: this key and those below it.
        after: the last key of the previous page, or the end of the range before; None at the beginning.
        until: the last key of the page, or the end of the range; None at the end of the listing.
        ignored: keys of the page that are left out.
        job_id: the job that lists. What another job found since this one began may be newer than this listing.
    """
    bounds = [
        "key > :after" if after is not None else "",
        "key <= :until" if until is not None else "",
        *_below(prefix),
        "key <> ALL(CAST(:ignored AS text[]))" if ignored else "",
        "NOT EXISTS (SELECT FROM unnest(CAST(:folders AS text[])) AS f (name) WHERE starts_with(key, f.name))"
        if (folders := [info.key for info in ignored if info.stands_for_all])
        else "",
        "listed_at <= (SELECT started_at FROM job WHERE id = :job_id)" if job_id is not None else "",
    ]
    within = " AND ".join(filter(None, bounds)) or "true"
    result = session.execute(
        text(
            f"""
            WITH gone AS MATERIALIZED (
                SELECT id, key, version FROM image
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
            ) AND NOT ({IS_PAGE} AND EXISTS (
                SELECT FROM image AS file WHERE file.archive_id = :archive_id AND file.key = {FILE_KEY}
                  AND file.missing_since IS NULL AND file.id NOT IN (SELECT id FROM gone)
                OFFSET 0
            ))
            """  # noqa: S608  (built from constants)
        ),
        {
            "archive_id": archive_id,
            "prefix": prefix.strip("/"),
            "after": after,
            "until": until,
            "unreadable": UNREADABLE_VERSION,
            "ignored": [info.key for info in ignored],
            "folders": folders,
            "job_id": job_id,
        },
    )
    return int(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult


def settle(session: Session, archive_id: int, prefix: str, job_id: int) -> list[int]:
    """Mark the known keys that a job's whole listing did not find, whatever its order was.

    All keys of the listed part are read. What pages marked before the order was known is taken back: these images are
    returned.

    Args:
        session: has an empty temporary table ``listed`` (see ``images.upsert_page``).
        archive_id: the listed archive.
        prefix: the listed part.
        job_id: the job. All of its pages are recorded.
    """
    session.execute(text(_FOUND), {"job_id": job_id})
    session.execute(text("ANALYZE listed"))
    found_again = list(session.scalars(text(_FALSELY_MARKED), {"job_id": job_id}))
    folders = session.scalars(text("SELECT key FROM listed WHERE right(key, 1) = '/'"))
    ignored = [ObjectInfo(key, "", 0, None, ignored="folder", stands_for_all=True) for key in folders]
    mark_missing(session, archive_id, prefix, None, None, ignored, job_id=job_id)
    return found_again

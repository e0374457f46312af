"""What a listing did not find: known keys are marked as missing, and a person is asked if nothing at all was found.

Where keys come in the order of their bytes, what a page skips is gone: so each page is marked as it is listed. Some
stores have an order of their own, or none. There, what a page skips may come later. So the keys of the listing are
named (``name``), and at its end known keys that are not among them are ``doubtful``: the store is asked for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.objects.base import UNREADABLE_VERSION
from storage.objects.pages import FILE_KEY, IS_FURTHER_PAGE_OF, IS_PAGE
from storage.objects.s3_listing import BAD_NAME
from storage.tables import KEY_NUMBER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from storage.objects.base import ObjectInfo

_IS_NAMED = f"EXISTS (SELECT FROM naming WHERE job_id = :job_id AND image_id = {KEY_NUMBER.format(key='image.key')})"

_WINDOW = 20_000
"""Known keys that are looked at together."""


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Known keys of which a listing makes one doubt that they are as they are marked.

    Attributes:
        gone: not marked as missing, and not listed.
        there: marked as missing since the listing began, and listed.
        last: the last key that was looked at; None: there are no more.
    """

    gone: list[str]
    there: list[str]
    last: str | None


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
        "version <> :bad_name",  # kept under another name, which is not where the key is listed
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
            "bad_name": BAD_NAME,
            "job_id": job_id,
        },
    )
    return int(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult


def name(session: Session, job_id: int, keys: Sequence[str]) -> None:
    """Remember that a job has listed these keys, until ``listings.forget_named``."""
    session.execute(
        text(
            f"""INSERT INTO naming (job_id, image_id)
                SELECT DISTINCT :job_id, {KEY_NUMBER.format(key="listed")} FROM unnest(CAST(:keys AS text[])) AS listed
                ON CONFLICT DO NOTHING"""  # noqa: S608  (constants)
        ),
        {"job_id": job_id, "keys": list(keys)},
    )


def name_recorded(session: Session, job_id: int) -> None:
    """Remember all keys that a job has recorded: it did not know from the beginning that it has to."""
    session.execute(
        text(
            f"""
            INSERT INTO naming (job_id, image_id)
            SELECT DISTINCT :job_id, {KEY_NUMBER.format(key="key")} FROM (
                SELECT image.key FROM (
                    SELECT unnest(image_ids) AS id FROM shard WHERE job_id = :job_id
                    UNION ALL
                    SELECT generate_series(lower(run), upper(run) - 1)
                    FROM skip, unnest(image_ids) AS run WHERE job_id = :job_id
                ) AS found JOIN image USING (id)
                UNION ALL SELECT unnest(keys) FROM ignored WHERE job_id = :job_id
            ) AS recorded ON CONFLICT DO NOTHING
            """  # noqa: S608  (constants)
        ),
        {"job_id": job_id},
    )


def doubtful(session: Session, archive_id: int, prefix: str, job_id: int, after: str) -> Doubtful:
    """Look at some known keys after a key. For further pages of files stands the key of their file.

    Args:
        session: a transaction.
        archive_id: the listed archive.
        prefix: the listed part.
        job_id: the job. All of its pages are recorded, and their keys named.
        after: the last key that was looked at; empty at the beginning.
    """
    below = "".join(f" AND {each}" for each in _below(prefix))
    rows = session.execute(
        text(
            f"""
            WITH part AS MATERIALIZED (
                SELECT key, version, missing_since, listed_at FROM image
                WHERE archive_id = :archive_id AND key > :after{below} ORDER BY key LIMIT :limit
            ), begun AS (SELECT started_at FROM job WHERE id = :job_id)
            SELECT DISTINCT CASE WHEN {IS_PAGE} THEN {FILE_KEY} ELSE key END AS key, missing_since IS NULL AS is_there,
                false AS is_last
            FROM part AS image, begun
            WHERE version <> :bad_name AND CASE
                WHEN missing_since IS NULL THEN listed_at <= started_at AND NOT {IS_PAGE} AND NOT {_IS_NAMED}
                ELSE missing_since >= started_at AND ({IS_PAGE} OR {_IS_NAMED}) END
            UNION ALL SELECT max(key), false, true FROM part
            """  # noqa: S608  (constants)
        ),
        {
            "archive_id": archive_id,
            "prefix": prefix.strip("/"),
            "job_id": job_id,
            "after": after,
            "limit": _WINDOW,
            "bad_name": BAD_NAME,
        },
    ).all()
    last = next(row.key for row in rows if row.is_last)
    keys = [row for row in rows if not row.is_last]
    return Doubtful([row.key for row in keys if row.is_there], [row.key for row in keys if not row.is_there], last)


def mark(session: Session, archive_id: int, *, gone: Sequence[str], there: Sequence[str]) -> list[int]:
    """Mark known keys, and further pages of these files, as missing or as there. Return the images that are there.

    The session holds the archive.
    """
    found: list[int] = []
    for keys, value in ((gone, "now()"), (there, "NULL")):
        if not keys:
            continue
        for these in ("image.key = file.key", IS_FURTHER_PAGE_OF.format(key="file.key")):
            marked = text(
                f"""UPDATE image SET missing_since = {value} FROM unnest(CAST(:keys AS text[])) AS file (key)
                    WHERE image.archive_id = :archive_id AND {these}
                      AND (image.missing_since IS NULL) = {value != "NULL"} RETURNING image.id"""  # noqa: S608
            )
            ids = session.scalars(marked, {"archive_id": archive_id, "keys": list(keys)}).all()
            found += ids if keys is there else []
    return found

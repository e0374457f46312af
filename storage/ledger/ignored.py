"""The keys that jobs left out: counted on the job, kept for its report, and forgotten with what is erased."""

from __future__ import annotations

import json
from hashlib import blake2b
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.ledger import listings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.orm import Session

    from storage.objects.base import ObjectInfo

_AT_ONCE = 100
"""Rows whose keys are read together, to look for some."""


def add(session: Session, job_id: int, page: Sequence[ObjectInfo]) -> None:
    """Count what a page of a listing leaves out, and keep the keys, in the transaction that moves the cursor.

    Args:
        session: holds the job (``listings.lock_running``), so that no page is counted twice.
        job_id: the job.
        page: the keys, each with its reason.
    """
    if not page:
        return
    by_reason = {
        reason: sorted((info.key for info in group), key=str.encode)
        for reason, group in groupby(sorted(page, key=_reason), key=_reason)
    }
    session.execute(
        text(
            """INSERT INTO ignored (job_id, reason, first_key, last_key, keys)
               VALUES (:job_id, :reason, :first_key, :last_key, :keys)"""
        ),
        [
            {"job_id": job_id, "reason": reason, "first_key": keys[0], "last_key": keys[-1], "keys": keys}
            for reason, keys in by_reason.items()
        ],
    )
    counts = json.dumps({reason: len(keys) for reason, keys in by_reason.items()})
    session.execute(
        text(
            """
            UPDATE job SET ignored = (
                SELECT jsonb_object_agg(reason, n) FROM (
                    SELECT reason, sum(n::bigint) AS n FROM (
                        SELECT * FROM jsonb_each_text(job.ignored)
                        UNION ALL SELECT * FROM jsonb_each_text(CAST(:counts AS jsonb))
                    ) AS both_of(reason, n) GROUP BY reason
                ) AS summed
            ) WHERE id = :job_id
            """
        ),
        {"job_id": job_id, "counts": counts},
    )


def names(session: Session, job_id: int, reason: str) -> list[str]:
    """Return the keys that a job left out for this reason."""
    left_out = text("SELECT unnest(keys) FROM ignored WHERE job_id = :job_id AND reason = :reason")
    return list(session.scalars(left_out, {"job_id": job_id, "reason": reason}))


_reason = attrgetter("ignored")


def name_first(session: Session, job_id: int, page: Sequence[ObjectInfo]) -> list[ObjectInfo]:
    """Return those of the left-out keys that the job's manifest had not named before, and remember them.

    They are no images and have no id. A negative hash stands for it, which no image has; with 63 bits, two of 10^8 keys
    share one in one of 2,000 manifests.
    """
    if not page:
        return []
    numbers = {_number(info.key): info for info in page}
    fresh = listings.name_first(session, job_id, list(numbers))
    return [info for number, info in numbers.items() if number in fresh]


def _number(key: str) -> int:
    return -1 - (int.from_bytes(blake2b(key.encode(), digest_size=8).digest()) >> 1)


def forget(session: Session, archive_id: int, keys: Sequence[str]) -> int:
    """Forget keys of an archive that jobs left out. The jobs' counts stay. Return how many names were forgotten."""
    if not keys:
        return 0
    gone = set(keys)
    ordered = sorted(gone, key=str.encode)
    return _forget(session, archive_id, ordered[0], ordered[-1], lambda key: key in gone)


def forget_below(session: Session, archive_id: int | None, *prefixes: str) -> int:
    """Forget the keys that begin with all of ``prefixes``, in one archive or in all. See ``forget``."""
    longest = max(prefixes, key=len, default="")
    return _forget(session, archive_id, longest, f"{longest}\U0010ffff", lambda key: all(map(key.startswith, prefixes)))


def _forget(session: Session, archive_id: int | None, first: str, last: str, is_gone: Callable[[str], bool]) -> int:
    """Forget keys between two keys. Only rows that may have some of these are read."""
    after, forgotten = 0, 0
    while True:
        rows = session.execute(
            text(
                """SELECT own.id, keys FROM ignored AS own JOIN job ON job.id = own.job_id
                   WHERE (CAST(:archive_id AS int) IS NULL OR job.archive_id = :archive_id) AND own.id > :after
                   AND last_key >= :first AND first_key <= :last ORDER BY own.id LIMIT :limit FOR UPDATE OF own"""
            ),
            {"archive_id": archive_id, "after": after, "first": first, "last": last, "limit": _AT_ONCE},
        ).all()
        if not rows:
            return forgotten
        after = rows[-1].id
        for row in rows:
            left = [key for key in row.keys if not is_gone(key)]
            if len(left) == len(row.keys):
                continue
            forgotten += len(row.keys) - len(left)
            if left:
                statement = """UPDATE ignored SET keys = :keys, first_key = :first, last_key = :last WHERE id = :id"""
                named = {"id": row.id, "keys": left, "first": left[0], "last": left[-1]}
                session.execute(text(statement), named)
            else:
                session.execute(text("DELETE FROM ignored WHERE id = :id"), {"id": row.id})

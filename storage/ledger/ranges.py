"""Ranges of a listing: the parts of an archive that several workers list at the same time.

A job begins with one range, that of all keys. A planner that lists one cuts it in two when no other range of the job is
free, so that the next idle worker finds one. A range is all keys after one string, up to another. So any cut is
correct, and a poor one only costs time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.tables import ListingRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

IS_FREE = """
    (part.lease_until IS NULL OR part.lease_until < now()) AND (part.next_at IS NULL OR part.next_at <= now())
"""
"""Whether no planner holds a range ``part``, and it need not wait."""


def begin(session: Session, job_id: int) -> None:
    """Give a new job the range of all its keys."""
    session.add(ListingRange(job_id=job_id))
    session.flush()


def is_one_free(session: Session, job_id: int) -> bool:
    """Return whether another worker would find a range of the job to list."""
    free = text(
        """SELECT EXISTS (SELECT FROM listing_range WHERE job_id = :id AND done_at IS NULL
                          AND (lease_until IS NULL OR lease_until < now()))"""
    )
    return bool(session.scalar(free, {"id": job_id}))


def cut(session: Session, range_id: int, at: str) -> None:
    """End a range at a key and make another one of the rest, in the transaction that holds it (``listings.require``).

    Args:
        session: the transaction.
        range_id: the range.
        at: the last key of the first part, whether there is such a key or not. It is within the range.
    """
    values = {"id": range_id, "at": at}
    session.execute(
        text(
            """INSERT INTO listing_range (job_id, cursor, until)
               SELECT job_id, :at, until FROM listing_range WHERE id = :id"""
        ),
        values,
    )
    session.execute(text("UPDATE listing_range SET until = :at WHERE id = :id"), values)


def reset(session: Session, job_ids: Sequence[int]) -> None:
    """Let the ranges of jobs be claimed by anybody, however often they failed.

    A planner that holds one goes on until another one claims it. They are locked before their jobs, as planners do.
    """
    held = text("SELECT id FROM listing_range WHERE job_id = ANY(:ids) AND done_at IS NULL ORDER BY id FOR UPDATE")
    ids = list(session.scalars(held, {"ids": list(job_ids)}))
    session.execute(
        text("""UPDATE listing_range SET attempts = 0, next_at = NULL, lease_until = NULL WHERE id = ANY(:ids)"""),
        {"ids": ids},
    )

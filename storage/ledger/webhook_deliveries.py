"""Webhook deliveries: which ended jobs have to be reported, and how often that was tried.

The transaction that ends a job also inserts its delivery. A delivery is leased by moving its due time. If a worker dies
between sending it and recording that, it is sent again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

FIRST_WAIT_SECONDS = 30
"""Doubles with each try; longer than any try takes."""

MOST_WAIT_SECONDS = 4 * 3600
MOST_TRIES = 15
"""With the delays above, this many tries take about a day."""


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """The report of a job's end. ``tries`` includes the current try."""

    job_id: int
    ended_at: datetime
    tries: int


def follow(session: Session, job_ids: Sequence[int]) -> None:
    """Insert a delivery for each of these jobs that has ended, if any worker sends webhooks. Delete the others' ones.

    Called by every change of a job's state, in the same transaction. Workers that send webhooks deregister when they
    stop normally. Nothing is inserted once no webhook is configured.
    """
    if not job_ids:
        return
    session.execute(text("DELETE FROM notice WHERE job_id = ANY(:ids)"), {"ids": list(job_ids)})
    session.execute(
        text(
            """INSERT INTO notice (job_id, ended_at, due_at) SELECT id, finished_at, now() FROM job
               WHERE id = ANY(:ids) AND finished_at IS NOT NULL AND EXISTS (SELECT FROM worker WHERE sends_notices)"""
        ),
        {"ids": list(job_ids)},
    )


def claim(session: Session) -> WebhookDelivery | None:
    """Lease the delivery that has been due for longest; None if none is due."""
    row = session.execute(
        text(
            """
            UPDATE notice SET tries = tries + 1,
                due_at = now() + make_interval(secs => least(:most, :first * power(2, tries)))
            WHERE job_id = (SELECT job_id FROM notice WHERE due_at <= now() ORDER BY due_at LIMIT 1
                            FOR UPDATE SKIP LOCKED)
            RETURNING job_id, ended_at, tries
            """
        ),
        {"first": FIRST_WAIT_SECONDS, "most": MOST_WAIT_SECONDS},
    ).one_or_none()
    return None if row is None else WebhookDelivery(row.job_id, row.ended_at, row.tries)


def settle(session: Session, delivery: WebhookDelivery, error: str | None) -> None:
    """Record that a delivery was sent (``error`` is None) or why not. After the last try it is given up.

    Nothing is recorded if the job was continued meanwhile, or has ended again.
    """
    session.execute(
        text(
            """
            UPDATE notice SET error = :error, sent_at = CASE WHEN :is_sent THEN now() END,
                due_at = CASE WHEN NOT :is_over THEN due_at END
            WHERE job_id = :job_id AND ended_at = :ended_at AND sent_at IS NULL
            """
        ),
        {
            "job_id": delivery.job_id,
            "ended_at": delivery.ended_at,
            "error": error,
            "is_sent": error is None,
            "is_over": error is None or delivery.tries >= MOST_TRIES,
        },
    )


def described(row: Row[Any]) -> str | None:
    """Return the state of a job's delivery in words, from the columns ``notice_*`` of its row."""
    if row.notice_ended_at is None:
        return None
    if row.notice_sent_at is not None:
        return "told"
    tried = f": it {row.notice_error}, {row.notice_tries} of {MOST_TRIES} tries" if row.notice_error else ""
    return f"{'not told yet' if row.notice_due_at is not None else 'not told, given up'}{tried}"


def troubled(session: Session) -> tuple[int, int, int | None]:
    """Return the number of deliveries being retried, the number given up, and the latest job of all these."""
    row = session.execute(
        text(
            """SELECT count(due_at) AS again, count(*) - count(due_at) AS lost, max(job_id) AS job_id FROM notice
               WHERE sent_at IS NULL AND error IS NOT NULL"""
        )
    ).one()
    return row.again, row.lost, row.job_id

"""What users and archives use of their quotas, as people see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.ledger import quotas
from storage.ledger.quotas import USED
from storage.ledger.views import PRIORITY_NAMES

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from storage.ledger.quotas import Kind, Subject


@dataclass(frozen=True, slots=True)
class UseView:
    """What a user or an archive uses, and their quotas; None: no limit.

    Attributes:
        subject: ``user`` or ``archive``.
        name: the user's name, or the archive's URI.
        share: the weight among the users whose images wait; an archive has none.
        images_waiting: images in flight.
        images_today: images that listings gave to workers since midnight UTC.
        jobs: running and paused jobs.
        day_ends_at: the next midnight UTC.
    """

    subject: Subject
    name: str
    share: float
    images_waiting: int
    most_images_waiting: float | None
    images_today: int
    most_images_a_day: float | None
    jobs: int
    most_jobs_at_once: float | None
    highest_priority: str | None
    searches_per_second: float | None
    day_ends_at: datetime


def use(session: Session, owner: str | None = None) -> list[UseView]:
    """Return what is used: of all users that have an account, jobs or a quota, of ``owner``, and of archives with one.

    Users come first, those with the most images in flight before the others.
    """
    rows = session.execute(
        text(
            f"""
            WITH {USED}, subjects AS (
                SELECT subject, name FROM used_by WHERE subject = 'user'
                UNION SELECT subject, name FROM quota WHERE subject IN ('user', 'archive')
                UNION SELECT 'user', name FROM account WHERE removed_at IS NULL
                UNION SELECT 'user', CAST(:owner AS text) WHERE CAST(:owner AS text) IS NOT NULL
            )
            SELECT subject, name, jsonb_object_agg(kind, n) FILTER (WHERE kind IS NOT NULL) AS used,
                (date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day') AT TIME ZONE 'UTC' AS day_ends_at
            FROM subjects LEFT JOIN used_by USING (subject, name) GROUP BY subject, name
            ORDER BY subject DESC, coalesce(sum(n) FILTER (WHERE kind = 'images_waiting'), 0) DESC, name
            """  # noqa: S608  (constants)
        ),
        {"owner": owner},
    ).all()
    limits = {(quota.kind, quota.subject, quota.name): quota.amount for quota in quotas.every(session)}

    def limit(kind: Kind, subject: Subject, name: str) -> float | None:
        everybody = limits.get((kind, "default", "")) if subject == "user" else None
        return limits.get((kind, subject, name), everybody)

    views = []
    for row in rows:
        used, highest = row.used or {}, limit("highest_priority", row.subject, row.name)
        views.append(
            UseView(
                subject=row.subject,
                name=row.name,
                share=limit("share", row.subject, row.name) or 1.0,
                images_waiting=used.get("images_waiting", 0),
                most_images_waiting=limit("images_waiting", row.subject, row.name),
                images_today=used.get("images_a_day", 0),
                most_images_a_day=limit("images_a_day", row.subject, row.name),
                jobs=used.get("jobs_at_once", 0),
                most_jobs_at_once=limit("jobs_at_once", row.subject, row.name),
                highest_priority=None if highest is None else PRIORITY_NAMES[int(highest)],
                searches_per_second=limit("searches_per_second", row.subject, row.name),
                day_ends_at=row.day_ends_at,
            )
        )
    return views

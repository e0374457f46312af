"""How much work waits, for each stage, model and priority. No statement here reads images, or more than a few shards.

``storage.ledger.shards.backlog`` is what wakes workers up: it counts only what can be claimed now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.ledger.views import PRIORITY_NAMES, Priority
from storage.tables import RECOGNITION

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

MOST_SHARDS = 1_000
"""Shards of a job that are counted. A job with more has at least this many."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for one stage and model, of running jobs of one priority.

    Attributes:
        images: listed and neither done, failed nor skipped; those that workers hold are among them.
        shards: ready or held; at most ``MOST_SHARDS`` of each job are counted.
        listings: jobs whose archive is not listed to the end, and watches that are due to begin one.
    """

    stage: str
    model: str
    priority: Priority
    images: int
    shards: int
    listings: int


def waiting(session: Session) -> list[Waiting]:
    """Return what waits in running jobs and for due watches. Paused jobs and watches do not count.

    Counts come from the counters of the jobs, corrected by the shards that are begun, which an index holds.
    """
    rows = session.execute(
        text(
            f"""
            SELECT stage, model, priority, sum(images)::bigint AS images, sum(shards)::bigint AS shards,
                sum(listings)::bigint AS listings
            FROM (
                SELECT job.stage, job.model, job.priority,
                    job.listed - job.done - job.failed - job.skipped - coalesce(begun.settled, 0) AS images,
                    open_shards.n AS shards,
                    CASE WHEN listed_all_at IS NULL AND with_job_id IS NULL THEN 1 ELSE 0 END AS listings
                FROM job
                LEFT JOIN LATERAL (
                    SELECT sum(n_done + n_failed + n_skipped)::bigint AS settled FROM shard
                    WHERE shard.job_id = job.id AND shard.state <> 'done' AND n_done + n_failed + n_skipped > 0
                ) AS begun ON true
                CROSS JOIN LATERAL (
                    SELECT count(*) AS n FROM (
                        SELECT FROM shard WHERE shard.job_id = job.id AND shard.state IN ('ready', 'leased')
                        LIMIT {MOST_SHARDS}
                    ) AS counted
                ) AS open_shards
                WHERE job.state = 'running'
                UNION ALL
                SELECT '{RECOGNITION}', watch.asks->>'model', watch.priority, 0, 0, 1
                FROM watch LEFT JOIN job AS listing ON listing.id = watch.listing_job_id
                WHERE NOT is_paused AND coalesce(not_before <= now(), true)
                    AND coalesce(listing.state NOT IN ('running', 'paused'), true)
                    AND (next_listing_at <= now() OR list_now_since IS NOT NULL
                         OR EXISTS (SELECT FROM watch_event WHERE watch_event.watch_id = watch.id))
            ) AS each_job GROUP BY stage, model, priority ORDER BY stage, model, priority DESC
            """  # noqa: S608  (constants)
        )
    )
    return [
        Waiting(row.stage, row.model, PRIORITY_NAMES[row.priority], row.images, row.shards, row.listings)
        for row in rows
    ]

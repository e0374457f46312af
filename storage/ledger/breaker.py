"""The breaker: a job that may not read most of its archive ends early, before it has failed millions of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.ledger import jobs

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

FORBIDDEN = "forbidden"
"""The class of failure that speaks of permissions: mended in one place, for all images at once."""

ENOUGH = 200
"""Images to judge by. Every worker has a few hundred more in flight by then, so that about a thousand are tried."""


def trip(session: Session, job_id: int) -> bool:
    """Fail a running job if more than half of its images so far, and enough of them, are forbidden; True if it did.

    Called after a batch with such an image was written. A job that was resumed after it failed goes on regardless.
    """
    job = session.execute(
        text(
            """
            SELECT job.done + coalesce(sum(n_done), 0) AS done, job.failed + coalesce(sum(n_failed), 0) AS failed
            FROM job LEFT JOIN shard ON shard.job_id = job.id AND shard.state <> 'done'
                AND n_done + n_failed + n_skipped > 0
            WHERE job.id = :id AND job.state = 'running' AND NOT job.breaker_is_off GROUP BY job.id
            """
        ),
        {"id": job_id},
    ).one_or_none()
    if job is None or job.done + job.failed < ENOUGH or job.failed <= job.done:
        return False
    # Counted only where failures prevail: it reads as many rows as there are failures.
    forbidden = session.scalar(
        text("SELECT count(*) FROM failure WHERE job_id = :id AND error_class = :code AND NOT retrying"),
        {"id": job_id, "code": FORBIDDEN},
    )
    if 2 * int(forbidden or 0) <= job.done + job.failed:
        return False
    jobs.fail(
        session,
        job_id,
        f"stopped: {forbidden} of the first {job.done + job.failed} images may not be read; give the workers "
        f"permission and `ramq retry {job_id} --class {FORBIDDEN}`, or `ramq resume {job_id}` to go on regardless",
    )
    return True

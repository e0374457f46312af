"""The circuit breaker: end a job early if most of its images are forbidden, before millions of them fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.ledger import jobs

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

FORBIDDEN = "forbidden"
"""The failure class about permissions. It is fixed in one place, for all images at once."""

ENOUGH = 200
"""Number of images to judge by. Each worker has a few hundred more in flight, so about a thousand are tried."""


def trip(session: Session, job_id: int) -> bool:
    """Fail a running job if more than half of its images so far, and enough of them, are forbidden.

    Called after a batch with such an image was written. A job that was resumed after it failed is not stopped again.

    Returns:
        Whether the job was failed.
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
    # Counted only if failures prevail: the query reads as many rows as there are failures.
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

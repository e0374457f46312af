"""Retry the failed images of a job: reopen their shards and correct the counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.ledger import jobs, webhook_deliveries

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.orm import Session


def reopen_failed(session: Session, job_id: int, error_class: str | None) -> int:
    """Make the failed images of a job pending again, all or those of one class. Return how many.

    The failures stay, marked as being retried, until each image has a new outcome.

    Raises:
        ConflictError: the generation of its results was dropped.
    """
    jobs.require_generation(session, job_id)
    ids = set(
        session.execute(
            text(
                """UPDATE failure SET retrying = true WHERE job_id = :id AND NOT retrying
                   AND (CAST(:error_class AS text) IS NULL OR error_class = :error_class) RETURNING image_id"""
            ),
            {"id": job_id, "error_class": error_class},
        ).scalars()
    )
    if not ids:
        return 0
    shards = session.execute(
        text(
            """SELECT id, state, image_ids, outcomes, n_done, n_failed, n_skipped, n_copied FROM shard
               WHERE job_id = :id AND n_failed > 0 AND image_ids && CAST(:ids AS bigint[]) ORDER BY id FOR UPDATE"""
        ),
        {"id": job_id, "ids": list(ids)},
    ).all()
    reopened = sum(_reopen(session, job_id, shard, ids) for shard in shards)
    session.execute(
        text(
            """UPDATE job SET state = 'running', finished_at = NULL, note = NULL, looked_for_moves = false
               WHERE id = :id AND state <> 'paused'"""
        ),
        {"id": job_id},
    )
    webhook_deliveries.follow(session, [job_id])
    return reopened


def _reopen(session: Session, job_id: int, shard: Row[tuple[object, ...]], ids: set[int]) -> int:
    failed = 2
    outcomes = bytearray(shard.outcomes)
    positions = [
        position
        for position, image_id in enumerate(shard.image_ids)
        if image_id in ids and outcomes[position] == failed
    ]
    for position in positions:
        outcomes[position] = 0
    if shard.state == "done":
        # Move its counts from the job back to the shard, which is open again.
        session.execute(
            text(
                """UPDATE job SET done = done - :n_done, failed = failed - :n_failed, skipped = skipped - :n_skipped,
                   copied = copied - :n_copied WHERE id = :id"""
            ),
            {
                "id": job_id,
                "n_done": shard.n_done,
                "n_failed": shard.n_failed,
                "n_skipped": shard.n_skipped,
                "n_copied": shard.n_copied,
            },
        )
    # A new epoch fences a holder that would still write outdated outcomes.
    session.execute(
        text(
            """UPDATE shard SET state = 'ready', epoch = epoch + 1, attempts = 0, tries = 0, next_try_at = NULL,
               owner = NULL, lease_until = NULL, probe = NULL, probe_deaths = 0, outcomes = :outcomes,
               n_failed = :n_failed WHERE id = :id"""
        ),
        {"id": shard.id, "outcomes": bytes(outcomes), "n_failed": outcomes.count(failed)},
    )
    return len(positions)

"""Retry the failed images of a job: reopen their shards and correct the counters."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.ledger import jobs, webhook_deliveries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

_SHARDS_AT_ONCE = 500
_FAILED_OUTCOME = 2
_FAILED = re.compile(bytes([_FAILED_OUTCOME]))
_COUNTS = ("n_done", "n_failed", "n_skipped", "n_copied")


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
    # All of them are locked before the job, as workers lock a shard before its job.
    locked = text("SELECT id FROM shard WHERE job_id = :id AND n_failed > 0 ORDER BY id FOR UPDATE")
    shards = session.scalars(locked, {"id": job_id}).all()
    reopened = sum(
        _reopen(session, job_id, shards[first : first + _SHARDS_AT_ONCE], ids)
        for first in range(0, len(shards), _SHARDS_AT_ONCE)
    )
    session.execute(
        text(
            """UPDATE job SET state = 'running', finished_at = NULL, note = NULL, looked_for_moves = false
               WHERE id = :id AND state <> 'paused'"""
        ),
        {"id": job_id},
    )
    webhook_deliveries.follow(session, [job_id])
    return reopened


def _reopen(session: Session, job_id: int, shard_ids: Sequence[int], ids: set[int]) -> int:
    """Reopen those of some shards that hold failed images of ``ids``. Return how many images are pending again."""
    rows = session.execute(
        text(
            """SELECT id, state, image_ids, outcomes, n_done, n_failed, n_skipped, n_copied FROM shard
               WHERE id = ANY(:ids)"""
        ),
        {"ids": list(shard_ids)},
    )
    reopened, closed, changed = 0, Counter[str](), []
    for shard in rows:
        outcomes = bytearray(shard.outcomes)
        positions = [found.start() for found in _FAILED.finditer(shard.outcomes)]
        positions = [position for position in positions if shard.image_ids[position] in ids]
        for position in positions:
            outcomes[position] = 0
        if positions:
            reopened += len(positions)
            changed.append((shard.id, bytes(outcomes), outcomes.count(_FAILED_OUTCOME)))
            if shard.state == "done":  # its counts move from the job back to the shard, which is open again
                closed.update({name: getattr(shard, name) for name in _COUNTS})
    if not changed:
        return 0
    if closed:
        session.execute(
            text(
                """UPDATE job SET done = done - :n_done, failed = failed - :n_failed, skipped = skipped - :n_skipped,
                   copied = copied - :n_copied WHERE id = :id"""
            ),
            {"id": job_id, **{name: closed[name] for name in _COUNTS}},
        )
    # A new epoch fences a holder that would still write outdated outcomes.
    session.execute(
        text(
            """UPDATE shard SET state = 'ready', epoch = epoch + 1, attempts = 0, tries = 0, next_try_at = NULL,
               owner = NULL, lease_until = NULL, probe = NULL, probe_deaths = 0, outcomes = new.outcomes,
               n_failed = new.n_failed
               FROM unnest(CAST(:ids AS bigint[]), CAST(:outcomes AS bytea[]), CAST(:failed AS smallint[]))
                   AS new (id, outcomes, n_failed) WHERE shard.id = new.id"""
        ),
        dict(zip(("ids", "outcomes", "failed"), map(list, zip(*changed, strict=True)), strict=True)),
    )
    return reopened

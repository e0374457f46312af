"""Shards: they are added, written under a fence, released or closed; see ``claims`` for how they are leased.

All times come from the database's clock. ``epoch`` identifies a lease: a worker that takes a shard over gets a higher
one, and writes of an older holder then match no row.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage import traces
from storage.database import LOCKED_IDLE_SECONDS, driver_connection, limit_idleness
from storage.errors import RamqError
from storage.ledger.claims import CLAIMABLE
from storage.ledger.ranges import IS_FREE
from storage.tables import RECOGNITION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from storage.ledger.claims import ClaimedShard

PENDING, DONE, FAILED, SKIPPED = 0, 1, 2, 3


class FencedError(RamqError):
    """The lease was lost: another worker now holds the shard, or the job was cancelled. Nothing was written."""

    code = "fenced"


def add(
    session: Session, job_id: int, shards: Sequence[Sequence[int]], with_shard_ids: Sequence[int | None] = ()
) -> None:
    """Add shards of these images to a job, ready to be claimed.

    ``with_shard_ids`` names for each the shard of the recognition of the same images, if there is one.
    """
    if shards:
        # One statement: other planners of the job wait for this page.
        ends = list(itertools.accumulate(map(len, shards)))
        session.execute(
            text(
                """INSERT INTO shard (job_id, image_ids, outcomes, with_shard_id, trace)
                   SELECT :job_id, (CAST(:ids AS bigint[]))[first:last], decode(repeat('00', last - first + 1), 'hex'),
                       partner, :trace
                   FROM unnest(CAST(:firsts AS int[]), CAST(:lasts AS int[]), CAST(:partners AS bigint[]))
                       WITH ORDINALITY AS part (first, last, partner, place) ORDER BY place"""
            ),
            {
                "job_id": job_id,
                "ids": list(itertools.chain.from_iterable(shards)),
                "firsts": [end - len(ids) + 1 for end, ids in zip(ends, shards, strict=True)],
                "lasts": ends,
                "partners": list(with_shard_ids or [None] * len(shards)),
                "trace": traces.current(),
            },
        )


def renew(session: Session, shard_id: int, epoch: int, lease_seconds: float) -> bool:
    """Renew a lease. Return False if it was lost."""
    # This may wait for a write of its own process, and get the lock after that process was stopped.
    limit_idleness(session)
    return _touched(
        session,
        """UPDATE shard SET lease_until = now() + make_interval(secs => :lease_seconds)
           WHERE id = :id AND epoch = :epoch AND state = 'leased'""",
        {"id": shard_id, "epoch": epoch, "lease_seconds": lease_seconds},
    )


def set_probe(session: Session, shard_id: int, epoch: int, position: int) -> None:
    """Record which image is about to be processed alone. Raises ``FencedError``."""
    # A new suspect starts at zero. The same one keeps its count of deaths.
    if not _touched(
        session,
        """UPDATE shard SET probe_deaths = CASE WHEN probe = :position THEN probe_deaths ELSE 0 END, probe = :position
           WHERE id = :id AND epoch = :epoch AND state = 'leased'""",
        {"id": shard_id, "epoch": epoch, "position": position},
    ):
        raise FencedError(f"shard {shard_id} was taken over")


def advance(
    session: Session, shard_id: int, epoch: int, outcomes: bytes, lease_seconds: float, *, copied: int = 0
) -> str:
    """Check the fence, store the outcomes so far and renew the lease. Return the state of the job.

    ``copied``: how many of the done images have the results of others with the same bytes.

    Must be the first statement of the transaction that writes the batch: it locks the shard against a takeover.

    Raises:
        FencedError: the lease was lost.
    """
    row = (
        driver_connection(session)
        .execute(
            """
            UPDATE shard SET outcomes = %(outcomes)s, n_done = %(n_done)s, n_failed = %(n_failed)s,
                n_skipped = %(n_skipped)s, n_copied = %(n_copied)s, probe = NULL, probe_deaths = 0, attempts = 0,
                lease_until = now() + make_interval(secs => %(lease_seconds)s)
            FROM job
            WHERE shard.id = %(id)s AND shard.epoch = %(epoch)s AND shard.state = 'leased' AND job.id = shard.job_id
            RETURNING job.state
            """,
            {
                "id": shard_id,
                "epoch": epoch,
                "outcomes": outcomes,
                "n_done": outcomes.count(DONE),
                "n_failed": outcomes.count(FAILED),
                "n_skipped": outcomes.count(SKIPPED),
                "n_copied": copied,
                "lease_seconds": float(lease_seconds),
            },
            prepare=True,
        )
        .fetchone()
    )
    if row is None:
        raise FencedError(f"shard {shard_id} was taken over")
    return str(row[0])


def close(
    session: Session,
    shard_id: int,
    epoch: int,
    stage_seconds: Mapping[str, float],
    *,
    active_seconds: float = 0.0,
    worked_seconds: float = 0.0,
) -> None:
    """Close a shard without pending images, and add its counts to the job's.

    Args:
        session: its transaction closes the shard.
        shard_id: the shard.
        epoch: of its lease.
        stage_seconds: how long each step was busy with it.
        active_seconds: how long ago this holder began it. Time in which several holders worked counts once.
        worked_seconds: the holder's time that went into it; see ``workers.pipeline.worked_time``.

    Raises:
        FencedError: the lease was lost.
    """
    row = session.execute(
        text(
            """
            UPDATE shard SET state = 'done', lease_until = NULL, next_try_at = NULL, attempts = 0, tries = 0,
                stage_seconds = CAST(:seconds AS jsonb)
            WHERE id = :id AND epoch = :epoch AND state = 'leased'
            RETURNING job_id, n_done, n_failed, n_skipped, n_copied
            """
        ),
        {"id": shard_id, "epoch": epoch, "seconds": json.dumps(stage_seconds)},
    ).one_or_none()
    if row is None:
        raise FencedError(f"shard {shard_id} was taken over")
    session.execute(
        text(
            """
            UPDATE job SET done = done + :n_done, failed = failed + :n_failed, skipped = skipped + :n_skipped,
                copied = copied + :n_copied,
                active_seconds = active_seconds + extract(epoch FROM
                    now() - least(now(), greatest(active_until, now() - make_interval(secs => :active)))),
                active_until = now(), worked_seconds = worked_seconds + :worked,
                note = CASE WHEN state = 'failed' THEN note END,
                stage_seconds = (
                    SELECT coalesce(jsonb_object_agg(stage, total), '{}') FROM (
                        SELECT stage, sum(value::float) AS total FROM (
                            SELECT * FROM jsonb_each_text(job.stage_seconds)
                            UNION ALL SELECT * FROM jsonb_each_text(CAST(:seconds AS jsonb))
                        ) AS both_of(stage, value) GROUP BY stage
                    ) AS summed
                )
            WHERE id = :job_id
            """
        ),
        {
            **row._mapping,  # noqa: SLF001  (SQLAlchemy's documented name)
            "seconds": json.dumps(stage_seconds),
            "active": active_seconds,
            "worked": worked_seconds,
        },
    )


def give_back(
    session: Session,
    shard: ClaimedShard,
    *,
    is_transient: bool = False,
    delay_seconds: float = 0.0,
    note: str | None = None,
) -> bool:
    """Release a shard with work left. Apart from what was written, it is as if it had not been claimed.

    This is the only way to end a lease early. If a holder or its device dies, the lease expires, and the next holder
    sees the attempt counted. A lost lease is not changed. Return False then.

    Args:
        session: its transaction ends the lease.
        shard: as it was claimed.
        is_transient: whether a transient error was the reason; the round is then counted.
        delay_seconds: how long nobody may claim it.
        note: what the job waits for, shown to people.
    """
    was_held = _touched(
        session,
        """
        UPDATE shard SET state = 'ready', owner = NULL, lease_until = NULL,
            -- Whatever was written set these back: this holder's claim is not counted any more then.
            attempts = CASE WHEN attempts = 0 THEN 0 ELSE :attempts END,
            probe = CASE WHEN attempts = 0 THEN NULL ELSE CAST(:probe AS smallint) END,
            probe_deaths = CASE WHEN attempts = 0 THEN 0 ELSE :probe_deaths END,
            tries = CASE WHEN :is_transient THEN least(tries + 1, 1000) ELSE tries END,
            next_try_at = now() + make_interval(secs => :delay_seconds)
        WHERE id = :id AND epoch = :epoch AND state = 'leased'
        """,
        {
            "id": shard.id,
            "epoch": shard.epoch,
            "attempts": max(0, shard.attempts - 1),
            "probe": shard.probe,
            "probe_deaths": max(0, shard.probe_deaths - 1),
            "is_transient": is_transient,
            "delay_seconds": delay_seconds,
        },
    )
    if was_held and note is not None:
        _note_on_job(session, shard.id, note)
    return was_held


def _note_on_job(session: Session, shard_id: int, note: str) -> None:
    session.execute(
        text(
            """UPDATE job SET note = :note FROM shard
            WHERE shard.id = :id AND job.id = shard.job_id AND job.state IN ('running', 'paused')"""
        ),
        {"id": shard_id, "note": note},
    )


def backlog(session: Session) -> dict[str, int]:
    """Return the number of waiting items by model, or by stage if it is not recognition.

    These are shards that can be claimed, and listings that can continue. A follower only waits for the other job's.
    """
    rows = session.execute(
        text(
            f"""
            SELECT CASE WHEN stage = '{RECOGNITION}' THEN model ELSE stage END AS kind, sum(n) AS n FROM (
                SELECT job.stage, job.model, count(*) AS n FROM job JOIN LATERAL (
                    SELECT FROM shard WHERE shard.job_id = job.id AND shard.state IN ('ready', 'leased')
                    AND {CLAIMABLE} LIMIT 1000
                ) AS claimable ON true
                WHERE job.state = 'running' AND job.generation_id IS NOT NULL GROUP BY job.stage, job.model
                UNION ALL
                SELECT stage, model, count(*) FROM job JOIN listing_range AS part ON part.job_id = job.id
                WHERE state = 'running' AND listed_all_at IS NULL AND part.done_at IS NULL
                AND (with_job_id IS NULL OR generation_id IS NULL) AND {IS_FREE} GROUP BY stage, model
            ) AS waiting GROUP BY kind
            """  # noqa: S608
        )
    )
    return {row.kind: int(row.n) for row in rows}


def _touched(session: Session, statement: str, values: dict[str, object]) -> bool:
    return bool(session.execute(text(statement), values).rowcount)  # type: ignore[attr-defined]


def require_held(session: Session, shard_id: int, epoch: int) -> None:
    """Lock a shard's row if this lease still holds it. Raises ``FencedError``.

    A holder that is stopped before it commits soon loses the lock. Nobody can take the shard over before that.
    """
    # The limit of ``limit_idleness`` is set by the same statement: every one that a batch takes costs a round trip.
    held = (
        driver_connection(session)
        .execute(
            """SELECT set_config('idle_in_transaction_session_timeout', %(limit)s, true) FROM shard
               WHERE id = %(id)s AND epoch = %(epoch)s AND state = 'leased' FOR UPDATE""",
            {"limit": f"{LOCKED_IDLE_SECONDS}s", "id": shard_id, "epoch": epoch},
            prepare=True,
        )
        .fetchone()
    )
    if held is None:
        raise FencedError(f"shard {shard_id} was taken over")

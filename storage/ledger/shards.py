"""Shards: they are leased, written under a fence, released or closed.

All times come from the database's clock. ``epoch`` identifies a lease: a worker that takes a shard over gets a higher
one, and writes of an older holder then match no row.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.database import limit_idleness
from storage.errors import RamqError
from storage.ledger.waiting import NOTHING_BARRED, Barred

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy.orm import Session

PENDING, DONE, FAILED, SKIPPED = 0, 1, 2, 3

_CLAIMABLE = """
    ((shard.state = 'ready' AND (shard.next_try_at IS NULL OR shard.next_try_at <= now()))
     OR (shard.state = 'leased' AND shard.lease_until < now()))
"""


class FencedError(RamqError):
    """The lease was lost: another worker now holds the shard, or the job was cancelled. Nothing was written."""

    code = "fenced"


@dataclass(frozen=True, slots=True)
class ClaimedShard:
    """A shard as it was claimed.

    Attributes:
        attempts: number of holders in a row that wrote nothing, including this one.
        tries: number of rounds that ended in a transient error.
        probe: position of the image that the last holder processed alone when it died; None: there was none.
        probe_deaths: number of holders that died while processing that image alone.
        outcomes: one byte per image.
        features: which features to store of each image.
        vocabulary_id: a vocabulary other than the model's own.
        from_generation_id: compute new tags from the features stored by that generation instead of reading the archive.
    """

    id: int
    job_id: int
    epoch: int
    attempts: int
    tries: int
    probe: int | None
    probe_deaths: int
    image_ids: list[int]
    outcomes: bytes
    archive_uri: str
    generation_id: int
    fingerprint: str
    model: str
    captioner: str
    features: str
    vocabulary_id: int | None
    from_generation_id: int | None


def add(session: Session, job_id: int, shards: Sequence[Sequence[int]]) -> None:
    """Add shards of these images to a job, ready to be claimed."""
    if shards:
        session.execute(
            text("INSERT INTO shard (job_id, image_ids, outcomes) VALUES (:job_id, :image_ids, :outcomes)"),
            [{"job_id": job_id, "image_ids": list(ids), "outcomes": bytes(len(ids))} for ids in shards],
        )


def claim(
    session: Session,
    *,
    owner: str,
    models: Sequence[str] | None,
    lease_seconds: float,
    other_generations: Collection[int] = (),
    barred: Barred = NOTHING_BARRED,
) -> ClaimedShard | None:
    """Lease the next shard: highest priority first, then the job with the fewest workers, then the oldest.

    Args:
        session: its transaction is the claim.
        owner: id of the worker.
        models: the models this worker can run; None: any.
        lease_seconds: duration of the lease, unless it is renewed.
        other_generations: generations whose jobs are left to others.
        barred: work to leave to others.
    """
    job_id = session.scalar(
        text(
            f"""
            SELECT job.id FROM job JOIN archive ON archive.id = job.archive_id
            WHERE job.state = 'running' AND job.generation_id IS NOT NULL
              AND job.model <> ALL(CAST(:barred_models AS text[]))
              AND job.captioner <> ALL(CAST(:barred_models AS text[]))
              AND (archive.uri <> ALL(CAST(:barred_archives AS text[])) OR job.from_generation_id IS NOT NULL)
              AND (CAST(:models AS text[]) IS NULL OR job.model = ANY(:models))
              AND job.generation_id <> ALL(CAST(:other_generations AS int[]))
              AND EXISTS (SELECT FROM shard WHERE shard.job_id = job.id
                          AND shard.state IN ('ready', 'leased') AND {_CLAIMABLE})
            ORDER BY job.priority DESC,
              (SELECT count(*) FROM shard WHERE shard.job_id = job.id AND shard.state = 'leased'
               AND shard.lease_until >= now()),
              job.id
            LIMIT 1
            """  # noqa: S608  (a constant of this module, no input)
        ),
        {
            "models": None if models is None else list(models),
            "other_generations": list(other_generations),
            "barred_models": list(barred.models),
            "barred_archives": list(barred.archives),
        },
    )
    if job_id is None:
        return None
    row = session.execute(
        text(
            f"""
            WITH candidate AS (
                SELECT id FROM shard WHERE job_id = :job_id AND state IN ('ready', 'leased') AND {_CLAIMABLE}
                ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
            )
            UPDATE shard SET state = 'leased', epoch = epoch + 1, attempts = attempts + 1, owner = :owner,
                lease_until = now() + make_interval(secs => :lease_seconds),
                probe_deaths = CASE WHEN probe IS NULL THEN 0 ELSE probe_deaths + 1 END
            FROM candidate, job, archive, generation
            WHERE shard.id = candidate.id AND job.id = shard.job_id AND archive.id = job.archive_id
              AND generation.id = job.generation_id
            RETURNING shard.id, shard.job_id, shard.epoch, shard.attempts, shard.tries, shard.probe,
                shard.probe_deaths, shard.image_ids, shard.outcomes, archive.uri AS archive_uri,
                job.generation_id, generation.fingerprint, job.model, job.captioner, job.features, job.vocabulary_id,
                job.from_generation_id
            """  # noqa: S608
        ),
        {"job_id": job_id, "owner": owner, "lease_seconds": lease_seconds},
    ).one_or_none()
    return None if row is None else ClaimedShard(**row._mapping)  # noqa: SLF001  (SQLAlchemy's documented name)


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


def advance(session: Session, shard_id: int, epoch: int, outcomes: bytes, lease_seconds: float) -> str:
    """Check the fence, store the outcomes so far and renew the lease. Return the state of the job.

    Must be the first statement of the transaction that writes the batch: it locks the shard against a takeover.

    Raises:
        FencedError: the lease was lost.
    """
    state = session.scalar(
        text(
            """
            UPDATE shard SET outcomes = :outcomes, n_done = :n_done, n_failed = :n_failed, n_skipped = :n_skipped,
                probe = NULL, probe_deaths = 0, attempts = 0,
                lease_until = now() + make_interval(secs => :lease_seconds)
            FROM job WHERE shard.id = :id AND shard.epoch = :epoch AND shard.state = 'leased' AND job.id = shard.job_id
            RETURNING job.state
            """
        ),
        {
            "id": shard_id,
            "epoch": epoch,
            "outcomes": outcomes,
            "n_done": outcomes.count(DONE),
            "n_failed": outcomes.count(FAILED),
            "n_skipped": outcomes.count(SKIPPED),
            "lease_seconds": lease_seconds,
        },
    )
    if state is None:
        raise FencedError(f"shard {shard_id} was taken over")
    return str(state)


def close(
    session: Session, shard_id: int, epoch: int, stage_seconds: Mapping[str, float], active_seconds: float = 0.0
) -> None:
    """Close a shard without pending images, and add its counts to the job's. Raises ``FencedError``.

    ``active_seconds`` is how long this holder worked on it. Time in which several holders worked counts once.
    """
    row = session.execute(
        text(
            """
            UPDATE shard SET state = 'done', lease_until = NULL, next_try_at = NULL, attempts = 0, tries = 0,
                stage_seconds = CAST(:seconds AS jsonb)
            WHERE id = :id AND epoch = :epoch AND state = 'leased'
            RETURNING job_id, n_done, n_failed, n_skipped
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
                active_seconds = active_seconds + extract(epoch FROM
                    now() - least(now(), greatest(active_until, now() - make_interval(secs => :active)))),
                active_until = now(),
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
        {**row._mapping, "seconds": json.dumps(stage_seconds), "active": active_seconds},  # noqa: SLF001
    )


def give_back(
    session: Session,
    shard: ClaimedShard,
    *,
    is_transient: bool = False,
    delay_seconds: float = 0.0,
    note: str | None = None,
) -> None:
    """Release a shard with work left. Apart from what was written, it is as if it had not been claimed.

    This is the only way to end a lease early. If a holder or its device dies, the lease expires, and the next holder
    sees the attempt counted. A lost lease is not changed.

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


def _note_on_job(session: Session, shard_id: int, note: str) -> None:
    session.execute(
        text(
            """UPDATE job SET note = :note FROM shard
            WHERE shard.id = :id AND job.id = shard.job_id AND job.state IN ('running', 'paused')"""
        ),
        {"id": shard_id, "note": note},
    )


def backlog(session: Session) -> dict[str, int]:
    """Return, by model, the number of waiting items: shards that can be claimed and listings that can continue."""
    rows = session.execute(
        text(
            f"""
            SELECT model, sum(n) FROM (
                SELECT job.model, count(*) AS n FROM job JOIN LATERAL (
                    SELECT FROM shard WHERE shard.job_id = job.id AND shard.state IN ('ready', 'leased')
                    AND {_CLAIMABLE} LIMIT 1000
                ) AS claimable ON true
                WHERE job.state = 'running' AND job.generation_id IS NOT NULL GROUP BY job.model
                UNION ALL
                SELECT model, count(*) FROM job WHERE state = 'running' AND listed_all_at IS NULL
                AND (list_lease_until IS NULL OR list_lease_until < now())
                AND (list_next_at IS NULL OR list_next_at <= now()) GROUP BY model
            ) AS waiting GROUP BY model
            """  # noqa: S608
        )
    )
    return {model: int(n) for model, n in rows}


def _touched(session: Session, statement: str, values: dict[str, object]) -> bool:
    return bool(session.execute(text(statement), values).rowcount)  # type: ignore[attr-defined]


def require_held(session: Session, shard_id: int, epoch: int) -> None:
    """Lock a shard's row if this lease still holds it. Raises ``FencedError``.

    A holder that is stopped before it commits soon loses the lock. Nobody can take the shard over before that.
    """
    limit_idleness(session)
    held = session.scalar(
        text("SELECT true FROM shard WHERE id = :id AND epoch = :epoch AND state = 'leased' FOR UPDATE"),
        {"id": shard_id, "epoch": epoch},
    )
    if not held:
        raise FencedError(f"shard {shard_id} was taken over")

"""Claims: which shard a worker takes next, and the shards of other stages that it takes with it.

A worker fetches and decodes an image once for all stages that it can do. Each stage has shards of its own, so each
keeps its own lease, fence, outcomes and counts; a shard that has the same images as one of recognition names it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage import traces
from storage.ledger import turns
from storage.ledger.waiting import Able
from storage.tables import RECOGNITION

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.orm import Session

CLAIMABLE = """
    ((shard.state = 'ready' AND (shard.next_try_at IS NULL OR shard.next_try_at <= now()))
     OR (shard.state = 'leased' AND shard.lease_until < now()))
"""
"""Whether a shard can be leased: it is ready, or its lease is over."""


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
        stage: what to do with the images.
        options: what the stage was asked for.
        n_copied: how many of its images have the results of others with the same bytes.
        trace: the ``traceparent`` of its claim; None: it is not recorded.
        job_trace: the ``traceparent`` of the request for its job; None: nobody noted it.
        charge: what its user was charged for the claim.
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
    stage: str = RECOGNITION
    options: dict[str, Any] = field(default_factory=dict)
    n_copied: int = 0
    trace: str | None = None
    job_trace: str | None = None
    charge: turns.Charge = turns.NOTHING


ABLE = Able()
"""A worker that recognises with any model and does nothing else."""

CAREFUL_AFTER = 3
"""From the third holder in a row that starts on the same images, images are processed one at a time."""

# A shard whose images are to be recognised too is left to whoever recognises them, if that could be this worker.
_WITH_ANOTHER = f"""
    (shard.with_shard_id IS NOT NULL AND CAST(:recognises AS boolean) AND EXISTS (
        SELECT FROM shard AS other JOIN job AS other_job ON other_job.id = other.job_id
        WHERE other.id = shard.with_shard_id AND other_job.state = 'running'
          AND other.state = 'ready' AND (other.next_try_at IS NULL OR other.next_try_at <= now())
          AND other.attempts < {CAREFUL_AFTER - 1} AND other.probe IS NULL
          AND other_job.model <> ALL(CAST(:barred_models AS text[]))
          AND other_job.captioner <> ALL(CAST(:barred_models AS text[]))
          AND (CAST(:models AS text[]) IS NULL OR other_job.model = ANY(:models))
          AND other_job.generation_id <> ALL(CAST(:other_generations AS int[]))))
"""

_LOOKED_AT = 64
"""Shards of a job that a claim looks at: with millions of them, it must not look at each."""

_LEASE = """
    UPDATE shard SET state = 'leased', epoch = epoch + 1, attempts = attempts + 1, owner = :owner,
        lease_until = now() + make_interval(secs => :lease_seconds),
        probe_deaths = CASE WHEN probe IS NULL THEN 0 ELSE probe_deaths + 1 END
    FROM candidate, job, archive, generation
    WHERE shard.id = candidate.id AND job.id = shard.job_id AND archive.id = job.archive_id
      AND generation.id = job.generation_id
    RETURNING shard.id, shard.job_id, shard.epoch, shard.attempts, shard.tries, shard.probe,
        shard.probe_deaths, shard.image_ids, shard.outcomes, shard.n_copied, archive.uri AS archive_uri,
        job.generation_id, generation.fingerprint, job.model, job.captioner, job.features, job.vocabulary_id,
        job.from_generation_id, job.stage, job.options,
        shard.trace, job.trace AS job_trace
"""

_FIRST_OF_JOB = f"""
    SELECT shard.with_shard_id FROM shard WHERE shard.job_id = job.id AND shard.state IN ('ready', 'leased')
    AND {CLAIMABLE} ORDER BY shard.id LIMIT {_LOOKED_AT}
"""  # noqa: S608


_CAN_BE_CLAIMED = f"""
    job.generation_id IS NOT NULL AND job.stage = ANY(:stages)
    AND job.model <> ALL(CAST(:barred_models AS text[])) AND job.captioner <> ALL(CAST(:barred_models AS text[]))
    AND (CAST(:models AS text[]) IS NULL OR job.stage <> '{RECOGNITION}' OR job.model = ANY(:models))
    AND job.generation_id <> ALL(CAST(:other_generations AS int[]))
    AND ((SELECT archive.uri FROM archive WHERE archive.id = job.archive_id) <> ALL(CAST(:barred_archives AS text[]))
         OR job.from_generation_id IS NOT NULL)
    AND EXISTS (SELECT FROM ({_FIRST_OF_JOB}) AS shard WHERE NOT {_WITH_ANOTHER})
"""  # noqa: S608  (constants)
"""Whether a job has a shard that a worker can claim."""


def claim(
    session: Session,
    *,
    owner: str,
    lease_seconds: float,
    able: Able = ABLE,
) -> ClaimedShard | None:
    """Lease the next shard: highest priority first, then the user whose turn it is, then the user's jobs in turns.

    ``storage.ledger.turns`` says whose turn it is, and lets no priority wait for ever.

    A shard of another stage whose images wait to be recognised by this worker too is left for :func:`claim_together`.

    Args:
        session: its transaction is the claim.
        owner: id of the worker.
        lease_seconds: duration of the lease, unless it is renewed.
        able: what this worker can do.
    """
    values, began = able.values(), traces.now()
    job_id = session.scalar(
        text(
            f"""
            WITH RECURSIVE {turns.CLOCKS}, {turns.USERS}
            SELECT found.job_id FROM (SELECT * FROM in_turn ORDER BY place OFFSET 0) AS in_turn
            CROSS JOIN LATERAL (SELECT {turns.first_job(_CAN_BE_CLAIMED)} AS job_id OFFSET 0) AS found
            WHERE found.job_id IS NOT NULL LIMIT 1
            """  # noqa: S608  (a constant of this module, no input)
        ),
        values,
    )
    if job_id is None:
        return None
    row = session.execute(
        text(
            f"""
            WITH candidate AS (
                SELECT id FROM shard WHERE job_id = :job_id AND state IN ('ready', 'leased') AND {CLAIMABLE}
                AND NOT {_WITH_ANOTHER} ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
            )
            {_LEASE}
            """  # noqa: S608
        ),
        {**values, "job_id": job_id, "owner": owner, "lease_seconds": lease_seconds},
    ).one_or_none()
    if row is None:
        return None
    shard = _noted(session, row, owner, began)
    # The last statement: the row of the user is locked until the commit, and other claims for the user wait for it.
    return replace(shard, charge=turns.charge(session, job_id, shard.outcomes.count(0)))


def claim_together(
    session: Session,
    shard: ClaimedShard,
    *,
    owner: str,
    lease_seconds: float,
    able: Able,
) -> list[ClaimedShard]:
    """Lease the shards of other stages that have the same images as ``shard``, in the transaction of its claim.

    None if either may hold an image that kills workers: such images are looked for one stage at a time.
    """
    if shard.attempts >= CAREFUL_AFTER or shard.probe is not None:
        return []
    began = traces.now()
    rows = session.execute(
        text(
            f"""
            WITH candidate AS (
                SELECT shard.id FROM shard JOIN job ON job.id = shard.job_id
                WHERE shard.with_shard_id = :shard_id AND shard.state IN ('ready', 'leased') AND {CLAIMABLE}
                  AND shard.attempts < {CAREFUL_AFTER - 1} AND shard.probe IS NULL
                  AND job.state = 'running' AND job.generation_id IS NOT NULL AND job.stage = ANY(:stages)
                  AND job.model <> ALL(CAST(:barred_models AS text[]))
                  AND job.generation_id <> ALL(CAST(:other_generations AS int[]))
                ORDER BY shard.id FOR UPDATE OF shard SKIP LOCKED
            )
            {_LEASE}
            """  # noqa: S608
        ),
        {**able.values(), "shard_id": shard.id, "owner": owner, "lease_seconds": lease_seconds},
    )
    together = [_noted(session, row, owner, began) for row in rows.all()]
    return [replace(one, charge=turns.charge_more(session, shard.job_id, one.outcomes.count(0))) for one in together]


def _noted(session: Session, row: Row[Any], owner: str, began: int) -> ClaimedShard:
    """Return a claimed shard, once its trace has begun: see decision 46.

    Hours may lie between the request for a job and the claim of a shard, and a holder may die. So every claim begins a
    trace of its own, which names those before it. Its span ends at once: that of a worker that dies is never sent.
    """
    shard = ClaimedShard(**row._mapping)  # noqa: SLF001  (SQLAlchemy's documented name)
    attributes: dict[str, str | int | list[int]] = {
        "ramq.job.id": shard.job_id,
        "ramq.shard.id": shard.id,
        "ramq.shard.epoch": shard.epoch,
        "ramq.shard.attempts": shard.attempts,
        "ramq.shard.images": len(shard.image_ids),
        "ramq.stage": shard.stage,
        "ramq.model": shard.model,
        "ramq.worker.id": owner,
    }
    before = "listing" if shard.epoch == 1 else "former claim"
    with traces.root("claim shard", attributes, {"job": shard.job_trace, before: shard.trace}, since=began) as span:
        if span is None:
            return replace(shard, trace=None)
        trace = traces.current()
        session.execute(text("UPDATE shard SET trace = :trace WHERE id = :id"), {"trace": trace, "id": shard.id})
        return replace(shard, trace=trace)

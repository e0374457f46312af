"""Whose turn it is: users share the time of workers by their weights, and no priority waits for ever.

Within a class of priority the users take turns by start-time fair queueing (Goyal, Vin and Cheng, 1996). Each class has
a clock, in seconds of one worker divided by weights. A claim begins where the user's last one ended, or at the clock if
the user had nothing waiting meanwhile. It ends as much later as the shard takes, divided by the user's weight. The user
whose claim would begin first is next, and the clock moves to where that claim begins. Who comes back is given nothing
for the time before.

What a shard takes is known when it ends. A claim is charged what it should take, by what the user's shards took lately
(:func:`charge`). Its holder charges the rest when the shard takes longer, at every renewal of the lease, and settles
the difference when it ends (:func:`settle`). If it took less, the user is *owed* the difference, which makes the next
claims begin earlier. It is not taken off the end of the last claim: whether a user had nothing waiting is seen from
that end lying behind the clock. A holder that dies settles nothing, and what it was charged stays.

The jobs of a user take turns by their numbers; those that were requested together have one turn. A higher priority
goes first, except that every ``OTHERS_EVERY``-th claim is for the class whose last claim is the longest ago.

The row of the user is written at the end of a claim, and no other row is, so claims for different users do not wait for
each other. Claims at the same moment may choose the same user, and each is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

LOCAL = "local"
"""The user of jobs that nobody is noted for, and of what came through the web while no tokens were needed."""

OWNER = f"coalesce(job.counts_for, job.said_by, '{LOCAL}')"
"""The user for whom a job counts."""

OTHERS_EVERY = 16
"""Of so many claims one is for the class of priority that has waited the longest."""

USUAL_SECONDS = 0.125
"""What an image of a user is taken to take before the first shard of the user has ended."""

_LEAST_SECONDS = 1e-4
"""What an image takes at least: one that took nothing would be claimed without end."""

CLOCKS = """
    clock AS MATERIALIZED (
        SELECT priority, max(began) AS now, max(claimed_at) AS claimed_at, sum(claims) AS claims
        FROM turn GROUP BY priority
    ),
    every_claim AS MATERIALIZED (SELECT coalesce(sum(claims), 0)::bigint AS n FROM clock)
"""
"""The clock of each class, and how many claims there were."""

_ROUND = "coalesce(job.with_job_id, job.id)"
"""What the jobs of a user take turns by: jobs that were requested together have one turn."""

# One step in ``ix_job_turn`` for each user and priority, however many jobs there are.
USERS = f"""
    user_with_jobs AS (
        (SELECT job.priority, {OWNER} AS owner, {_ROUND} AS first FROM job WHERE job.state = 'running'
         ORDER BY job.priority, {OWNER}, {_ROUND} LIMIT 1)
        UNION ALL
        SELECT following.priority, following.owner, following.first
        FROM user_with_jobs AS found CROSS JOIN LATERAL (
            SELECT job.priority, {OWNER} AS owner, {_ROUND} AS first FROM job
            WHERE job.state = 'running' AND (job.priority, {OWNER}) > (found.priority, found.owner)
            ORDER BY job.priority, {OWNER}, {_ROUND} LIMIT 1
        ) AS following
    ),
    in_turn AS MATERIALIZED (
        SELECT user_with_jobs.priority, user_with_jobs.owner, coalesce(turn.last_job_id, 0) AS last_job_id,
            row_number() OVER (ORDER BY
                CASE WHEN every_claim.n % {OTHERS_EVERY} = {OTHERS_EVERY - 1} THEN coalesce(clock.claimed_at, 0) END,
                user_with_jobs.priority DESC,
                CASE WHEN turn.ended >= clock.now THEN turn.ended - turn.owed ELSE coalesce(clock.now, 0) END,
                turn.ended NULLS FIRST,
                turn.claimed_at NULLS FIRST,
                user_with_jobs.first) AS place
        FROM user_with_jobs CROSS JOIN every_claim
        LEFT JOIN clock ON clock.priority = user_with_jobs.priority
        LEFT JOIN turn ON turn.priority = user_with_jobs.priority AND turn.owner = user_with_jobs.owner
    )
"""  # noqa: S608  (constants)
"""The users with running jobs of each priority, in turn. Needs ``CLOCKS``, and ``WITH RECURSIVE``."""


def first_job(condition: str) -> str:
    """Return an expression for the first job of a row of ``in_turn`` that meets a condition, in the order of turns.

    Jobs are looked at one after the other, until one meets it.

    Args:
        condition: about ``job``. It must not be one that a join could replace, or more would be looked at.
    """

    def of(which: str) -> str:
        return f"""(
            SELECT job.id FROM job
            WHERE job.state = 'running' AND job.priority = in_turn.priority AND {OWNER} = in_turn.owner
              AND {_ROUND} {which} in_turn.last_job_id AND ({condition})
            ORDER BY {_ROUND}, job.id LIMIT 1
        )"""  # noqa: S608  (constants)

    return f"coalesce({of('>')}, {of('<=')})"


_WEIGHT = """
    coalesce((SELECT amount FROM quota WHERE kind = 'share' AND subject = 'user' AND quota.name = of_job.owner), 1)
"""


@dataclass(frozen=True, slots=True)
class Charge:
    """What was charged for a shard.

    Attributes:
        job_id: the job for whose user it was charged.
        seconds: of one worker.
    """

    job_id: int
    seconds: float


NOTHING = Charge(0, 0.0)
"""Of a shard that nobody was charged for."""


def charge(session: Session, job_id: int, images: int) -> Charge:
    """Charge the user of a job for a claim of so many images, by what the user's images took lately."""
    seconds = session.scalar(
        text(
            f"""
            WITH {CLOCKS}, of_job AS (
                SELECT coalesce(with_job_id, id) AS id, priority, {OWNER} AS owner FROM job WHERE id = :id
            )
            INSERT INTO turn (priority, owner, began, ended, claims, claimed_at, last_job_id)
            SELECT of_job.priority, owner, coalesce(clock.now, 0),
                coalesce(clock.now, 0) + CAST(:images AS float) * {USUAL_SECONDS} / {_WEIGHT}, 1,
                every_claim.n + 1, of_job.id
            FROM of_job CROSS JOIN every_claim LEFT JOIN clock ON clock.priority = of_job.priority
            ON CONFLICT (priority, owner) DO UPDATE SET (began, ended, owed, claims, claimed_at, last_job_id) = (
                SELECT base - owed, base + greatest(cost - owed, 0), greatest(owed - cost, 0),
                    turn.claims + 1, excluded.claimed_at, excluded.last_job_id
                FROM (SELECT greatest(turn.ended, excluded.began) AS base,
                    CASE WHEN turn.ended < excluded.began THEN 0 ELSE turn.owed END AS owed,
                    (excluded.ended - excluded.began)
                        * coalesce(turn.image_seconds / {USUAL_SECONDS}, 1) AS cost) AS of_turn
            )
            RETURNING CAST(:images AS float) * coalesce(image_seconds, {USUAL_SECONDS})
            """  # noqa: S608  (constants)
        ),
        {"id": job_id, "images": images},
    )
    return Charge(job_id, float(seconds or 0.0))


def charge_more(session: Session, job_id: int, images: int) -> Charge:
    """Charge for another shard that was claimed together with the last one of a job, for another stage."""
    seconds = session.scalar(
        text(
            f"""
            WITH of_job AS (SELECT priority, {OWNER} AS owner FROM job WHERE id = :id)
            UPDATE turn SET ended = ended
                + CAST(:images AS float) * coalesce(image_seconds, {USUAL_SECONDS}) / {_WEIGHT}
            FROM of_job WHERE turn.priority = of_job.priority AND turn.owner = of_job.owner
            RETURNING CAST(:images AS float) * coalesce(image_seconds, {USUAL_SECONDS})
            """  # noqa: S608  (constants)
        ),
        {"id": job_id, "images": images},
    )
    return Charge(job_id, float(seconds or 0.0))


def settle(session: Session, charged: Charge, seconds: float, images: int = 0) -> None:
    """Charge what a shard took so far in place of what was charged, and note how long images of the user take.

    Must be among the last statements of its transaction: claims for the user wait for its commit.

    Args:
        session: a transaction.
        charged: what was charged for it until now.
        seconds: of one worker, that it took.
        images: how many images this holder finished in them. 0: nothing is learnt of how long an image takes.
    """
    session.execute(
        text(
            f"""
            WITH of_job AS (SELECT priority, {OWNER} AS owner FROM job WHERE id = :id),
            more AS MATERIALIZED (SELECT CAST(:more AS float) / {_WEIGHT} AS seconds FROM of_job)
            UPDATE turn SET owed = greatest(owed - more.seconds, 0), ended = ended + greatest(more.seconds - owed, 0),
                image_seconds = CASE WHEN CAST(:pace AS float) IS NULL THEN image_seconds
                    ELSE (coalesce(image_seconds, CAST(:pace AS float)) + CAST(:pace AS float)) / 2 END
            FROM of_job CROSS JOIN more WHERE turn.priority = of_job.priority AND turn.owner = of_job.owner
            """  # noqa: S608  (constants)
        ),
        {
            "id": charged.job_id,
            "more": seconds - charged.seconds,
            "pace": max(seconds / images, _LEAST_SECONDS) if images else None,
        },
    )

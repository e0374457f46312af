"""Whose turn it is: users share the workers by their weights, and no priority waits for ever.

Within a class of priority the users take turns by start-time fair queueing (Goyal, Vin and Cheng, 1996). Each class has
a clock, in images divided by weights. A claim begins where the user's last one ended, or at the clock if the user had
nothing waiting meanwhile. It ends so many images later as the shard has, divided by the user's weight. The user whose
claim would begin first is next, and the clock moves to where that claim begins. So while two users both have images
waiting, what they were given in any span differs by at most a shard of each, both divided by the weights. Who comes
back is given nothing for the time before.

The jobs of a user take turns by their numbers; those that were requested together have one turn. A higher priority
goes first, except that every ``OTHERS_EVERY``-th claim is for the class whose last claim is the longest ago.

The row of the user is written at the end of a claim, and no other row is, so claims for different users do not wait for
each other. Claims at the same moment may choose the same user, and each is counted.
"""

from __future__ import annotations

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

CLOCKS = """
    clock AS MATERIALIZED (
        SELECT priority, max(began) AS now, max(claimed_at) AS claimed_at, sum(claims) AS claims
        FROM turn GROUP BY priority
    ),
    every_claim AS MATERIALIZED (SELECT coalesce(sum(claims), 0)::bigint AS n FROM clock)
"""
"""The clock of each class, and how many claims there were."""

JOINS = f"""
    CROSS JOIN every_claim
    LEFT JOIN clock ON clock.priority = job.priority
    LEFT JOIN turn ON turn.priority = job.priority AND turn.owner = {OWNER}
"""

IN_TURN = f"""
    CASE WHEN every_claim.n % {OTHERS_EVERY} = {OTHERS_EVERY - 1} THEN coalesce(clock.claimed_at, 0) END,
    job.priority DESC,
    greatest(turn.ended, clock.now, 0),
    turn.ended NULLS FIRST,
    (coalesce(job.with_job_id, job.id) <= turn.last_job_id) NULLS FIRST,
    coalesce(job.with_job_id, job.id),
    job.id
"""
"""The order of jobs by whose turn it is. Needs ``CLOCKS`` and ``JOINS``."""

_WEIGHT = """
    coalesce((SELECT amount FROM quota WHERE kind = 'share' AND subject = 'user' AND quota.name = of_job.owner), 1)
"""


def charge(session: Session, job_id: int, images: int) -> None:
    """Count a claim of so many images for the user of a job."""
    session.execute(
        text(
            f"""
            WITH {CLOCKS}, of_job AS (
                SELECT coalesce(with_job_id, id) AS id, priority, {OWNER} AS owner FROM job WHERE id = :id
            )
            INSERT INTO turn (priority, owner, began, ended, claims, claimed_at, last_job_id)
            SELECT of_job.priority, owner, coalesce(clock.now, 0), coalesce(clock.now, 0) + :images / {_WEIGHT}, 1,
                every_claim.n + 1, of_job.id
            FROM of_job CROSS JOIN every_claim LEFT JOIN clock ON clock.priority = of_job.priority
            ON CONFLICT (priority, owner) DO UPDATE SET
                began = greatest(turn.ended, excluded.began),
                ended = greatest(turn.ended, excluded.began) + (excluded.ended - excluded.began),
                claims = turn.claims + 1, claimed_at = excluded.claimed_at, last_job_id = excluded.last_job_id
            """  # noqa: S608  (constants)
        ),
        {"id": job_id, "images": float(images)},
    )


def charge_more(session: Session, job_id: int, images: int) -> None:
    """Add images to the last claim of the user of a job: shards of other stages that were taken together with it."""
    session.execute(
        text(
            f"""
            WITH of_job AS (SELECT priority, {OWNER} AS owner FROM job WHERE id = :id)
            UPDATE turn SET ended = ended + :images / {_WEIGHT} FROM of_job
            WHERE turn.priority = of_job.priority AND turn.owner = of_job.owner
            """  # noqa: S608  (constants)
        ),
        {"id": job_id, "images": float(images)},
    )

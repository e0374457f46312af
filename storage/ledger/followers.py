"""Jobs that follow the listing of another job: further stages that were requested together with recognition.

A follower has shards with the images of the other job's shards, and names them, so that a worker that can do both
fetches and decodes each image once. It reads those shards and skipped images in order of their ids: these only grow,
in order, because a page is listed under a lock of the job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

_AT_ONCE = 64
"""Shards, and pages of skipped images, that are followed in one step."""


@dataclass(frozen=True, slots=True)
class Follower:
    """A job that follows another one. ``cursor`` is the last shard, and the last row of skipped images, it has seen."""

    job_id: int
    with_job_id: int
    stage: str
    generation_id: int
    cursor: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a follower sees next: (shard id or None, image ids), in order; whether this is the end; the new cursor."""

    parts: Sequence[tuple[int | None, list[int]]]
    is_end: bool
    cursor: tuple[int, int]


def of(session: Session, job_id: int) -> list[int]:
    """Return the followers of a job."""
    statement = text("SELECT id FROM job WHERE with_job_id = :id ORDER BY id")
    return list(session.scalars(statement, {"id": job_id}))


def behind(session: Session) -> list[int]:
    """Return the jobs that have followers which have not seen all of their listing yet."""
    return list(
        session.scalars(
            text(
                """SELECT DISTINCT with_job_id FROM job WHERE state IN ('running', 'paused') AND listed_all_at IS NULL
                   AND with_job_id IS NOT NULL AND generation_id IS NOT NULL"""
            )
        )
    )


def unbegun(session: Session, job_id: int, stages: Sequence[str]) -> list[tuple[int, str, str]]:
    """Return (job id, stage, model) of the followers of a job that no worker has begun, among these stages."""
    rows = session.execute(
        text(
            """SELECT id, stage, model FROM job WHERE with_job_id = :id AND generation_id IS NULL
               AND stage = ANY(:stages) AND state IN ('running', 'paused') ORDER BY id"""
        ),
        {"id": job_id, "stages": list(stages)},
    )
    return [(row.id, row.stage, row.model) for row in rows]


def lock(session: Session, job_id: int) -> list[Follower]:
    """Return the followers of a job that have to see more, and lock them. Their generations are known."""
    rows = session.execute(
        text(
            """SELECT id, with_job_id, stage, generation_id, follow_cursor FROM job WHERE with_job_id = :id
               AND generation_id IS NOT NULL AND listed_all_at IS NULL AND state IN ('running', 'paused')
               ORDER BY id FOR UPDATE"""
        ),
        {"id": job_id},
    )
    return [Follower(row.id, row.with_job_id, row.stage, row.generation_id, _cursor(row.follow_cursor)) for row in rows]


def reopen(session: Session, job_id: int) -> None:
    """Let the followers of a job look at it again: its listing was complete, and pages of files came to it."""
    session.execute(
        text(
            """UPDATE job SET listed_all_at = NULL
               WHERE with_job_id = :id AND listed_all_at IS NOT NULL AND state IN ('running', 'paused')"""
        ),
        {"id": job_id},
    )


def see(session: Session, follower: Follower) -> Seen:
    """Return what a follower has not seen yet of the other job's listing, at most some thousand images."""
    ids = {"id": follower.with_job_id, "limit": _AT_ONCE}
    # Before the rest is read: if it was complete, the rest is all there.
    is_complete = session.scalar(text("SELECT listed_all_at IS NOT NULL FROM job WHERE id = :id"), ids)
    shards = session.execute(
        text("SELECT id, image_ids FROM shard WHERE job_id = :id AND id > :after ORDER BY id LIMIT :limit"),
        {**ids, "after": follower.cursor[0]},
    ).all()
    skipped = session.execute(
        text(
            """SELECT id, ARRAY(SELECT generate_series(lower(r), upper(r) - 1) FROM unnest(image_ids) AS r) AS ids
               FROM skip WHERE job_id = :id AND id > :after ORDER BY id LIMIT :limit"""
        ),
        {**ids, "after": follower.cursor[1]},
    ).all()
    parts = [*((row.id, list(row.image_ids)) for row in shards), *((None, list(row.ids)) for row in skipped)]
    is_end = bool(is_complete) and len(shards) < _AT_ONCE and len(skipped) < _AT_ONCE
    last = (shards[-1].id if shards else follower.cursor[0], skipped[-1].id if skipped else follower.cursor[1])
    return Seen(parts, is_end, last)


def advance(session: Session, follower: Follower, seen: Seen, *, listed: int, skipped: int) -> None:
    """Count what a follower has seen, in the transaction that holds its lock and adds its shards."""
    session.execute(
        text(
            """UPDATE job SET follow_cursor = :cursor, listed = listed + :listed, skipped = skipped + :skipped,
               started_at = coalesce(started_at, now()),
               listed_all_at = CASE WHEN :is_end THEN now() END WHERE id = :id"""
        ),
        {
            "id": follower.job_id,
            "cursor": f"{seen.cursor[0]}:{seen.cursor[1]}",
            "listed": listed,
            "skipped": skipped,
            "is_end": seen.is_end,
        },
    )


def _cursor(text_: str | None) -> tuple[int, int]:
    shard_id, _, skip_id = (text_ or "0:0").partition(":")
    return int(shard_id), int(skip_id)

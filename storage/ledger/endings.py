"""How jobs end: when one has nothing left to do, what is left until then, and what to say of it meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.ledger import webhook_deliveries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

_MAY_GET_PAGES = """
    EXISTS (SELECT FROM job AS other WHERE other.id = job.with_job_id AND other.state IN ('running', 'paused')
        AND other.options -> 'pages' IS NOT NULL)
"""
_HAS_NO_SHARD = """
    state = 'running' AND listed_all_at IS NOT NULL
    AND NOT EXISTS (SELECT FROM shard WHERE shard.job_id = job.id AND shard.state IN ('ready', 'leased'))
"""
_HAS_NO_WORK = f"{_HAS_NO_SHARD} AND NOT {_MAY_GET_PAGES}"
# Jobs on a few keys follow each other quickly. If very many images are missing, the next whole listing looks instead.
_MAY_HAVE_MOVES = """(
    NOT looked_for_moves AND (
        EXISTS (SELECT FROM archive WHERE archive.id = job.archive_id AND archive.missing > 0
                AND (NOT job.of_keys OR archive.missing < 10000))
        OR EXISTS (SELECT FROM former_content AS former WHERE former.archive_id = job.archive_id))
)"""


def next_for_moves(session: Session) -> tuple[int, int] | None:
    """Return (job, archive) of a job that only has to look for images whose files were moved; None: there is none.

    The job is locked. Another process that asks gets another one.
    """
    row = session.execute(
        text(
            f"""SELECT id, archive_id FROM job WHERE {_HAS_NO_WORK} AND {_MAY_HAVE_MOVES}
                ORDER BY id LIMIT 1 FOR UPDATE OF job SKIP LOCKED"""  # noqa: S608  (constants)
        )
    ).one_or_none()
    return None if row is None else (row.id, row.archive_id)


def note_no_moves(session: Session, job_id: int) -> None:
    """Record that a job has nothing left to do but to end: no file of its archive was moved any more."""
    session.execute(text("UPDATE job SET looked_for_moves = true WHERE id = :id"), {"id": job_id})


def finish_completed(session: Session) -> list[int]:
    """Mark as done the running jobs that are listed completely and have no open shard. Return their ids.

    Jobs that still have to look for moved files (``next_for_moves``) are left out.
    """
    complete = f"{_HAS_NO_WORK} AND NOT {_MAY_HAVE_MOVES}"
    # Lock first: if a retry reopens shards meanwhile, the second statement sees it. A single statement would not.
    ids = list(session.scalars(text(f"SELECT id FROM job WHERE {complete} ORDER BY id FOR UPDATE SKIP LOCKED")))  # noqa: S608
    if not ids:
        return []
    ended = session.execute(
        text(
            f"""UPDATE job SET state = 'done', finished_at = now(), note = NULL
            WHERE id = ANY(:ids) AND {complete} RETURNING id"""  # noqa: S608  (a constant of this function)
        ),
        {"ids": ids},
    )
    done = list(ended.scalars())
    webhook_deliveries.follow(session, done)
    return done


def words(session: Session, job_ids: Sequence[int], *, is_any_alive: bool) -> dict[int, str | None]:
    """Return why jobs that only have to be ended have not ended, by id; None: a worker does it within seconds.

    Args:
        session: a transaction.
        job_ids: running jobs that are listed completely and have no pending images. Those with a shard that a worker
            still has to close are left out.
        is_any_alive: whether a worker is alive.
    """
    if not job_ids:
        return {}
    rows = session.execute(
        text(
            f"""SELECT id, with_job_id, {_MAY_GET_PAGES} AS may_get_pages, {_MAY_HAVE_MOVES} AS may_have_moves
                FROM job WHERE id = ANY(:ids) AND {_HAS_NO_SHARD}"""  # noqa: S608  (constants)
        ),
        {"ids": list(job_ids)},
    )
    return {row.id: _words(row, is_any_alive=is_any_alive) for row in rows}


def _words(row: Row[tuple[object, ...]], *, is_any_alive: bool) -> str | None:
    if row.may_get_pages:
        return f"its images so far are done. It ends after job {row.with_job_id}, which may find more pages of files"
    if not is_any_alive:
        return "its images are done, and the next worker ends it. No worker is running: start one with `ramq worker`"
    return "its images are done. It ends when workers have looked for moved files" if row.may_have_moves else None

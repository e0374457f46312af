"""Watched archives: made and steered by people, and turned into jobs by any worker. See also ``watch_events``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage.errors import ConflictError
from storage.ledger.watch_events import unknown
from storage.tables import Watch

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from storage.ledger.watch_events import Events

LEAST_SECONDS_BETWEEN_JOBS = 10.0
"""Between the beginnings of two jobs on the keys of events: a trickle of pictures makes few jobs."""

MOST_WAIT_SECONDS = 6 * 3600
"""The longest pause after failures."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a watch may be asked to do, beside where."""

    asks: dict[str, Any]
    priority: int
    every_seconds: int
    settle_seconds: float
    events: Events
    queue_url: str | None
    secret_hash: bytes | None


def add(session: Session, archive_id: int, prefix: str, asked: Asked) -> int:
    """Add a watch, which lists at once. Return its id. Raises ``ConflictError`` if this place is watched already."""
    known = session.scalar(
        text("SELECT id FROM watch WHERE archive_id = :archive_id AND prefix = :prefix"),
        {"archive_id": archive_id, "prefix": prefix},
    )
    if known is not None:
        raise ConflictError(f"watch {known} already watches this: `ramq watch remove {known}` first to change it")
    watch = Watch(
        archive_id=archive_id,
        prefix=prefix,
        asks=asked.asks,
        priority=asked.priority,
        every_seconds=asked.every_seconds,
        settle_seconds=asked.settle_seconds,
        events=asked.events,
        queue_url=asked.queue_url,
        secret_hash=asked.secret_hash,
    )
    session.add(watch)
    session.flush()
    return watch.id


def remove(session: Session, watch_id: int) -> None:
    """Remove a watch and the keys that wait. Its jobs stay. Raises ``NotFoundError``."""
    if not session.scalar(text("DELETE FROM watch WHERE id = :id RETURNING true"), {"id": watch_id}):
        raise unknown(watch_id)


def remove_all_of(session: Session, archive_id: int) -> None:
    """Remove the watches of an archive and of its parts, so that no further job begins on it."""
    session.execute(text("DELETE FROM watch WHERE archive_id = :archive_id"), {"archive_id": archive_id})


def pause(session: Session, watch_id: int) -> None:
    """Begin no further job of a watch. Raises ``NotFoundError``."""
    _change(session, watch_id, "is_paused = true, owner = NULL, lease_until = NULL, listening_since = NULL")


def resume(session: Session, watch_id: int) -> None:
    """Go on with a watch, and forget its failures. What changed in a folder meanwhile is found by a listing."""
    _change(
        session,
        watch_id,
        """is_paused = false, failures = 0, error = NULL, not_before = NULL, event_error = NULL,
           next_listing_at = least(next_listing_at, greatest(
               coalesce(listing_began_at, now()) + make_interval(secs => every_seconds), now()))""",
    )


def renew_secret(session: Session, watch_id: int, secret_hash: bytes) -> None:
    """Change the secret that senders of events have to know.

    Raises:
        NotFoundError: no such watch.
        ConflictError: nobody sends events to it.
    """
    changed = session.scalar(
        text("UPDATE watch SET secret_hash = :hash WHERE id = :id AND events = 'webhook' RETURNING true"),
        {"id": watch_id, "hash": secret_hash},
    )
    if not changed:
        _require(session, watch_id)
        raise ConflictError(f"watch {watch_id} takes no events by HTTP: add it with --events webhook")


def _change(session: Session, watch_id: int, assignments: str) -> None:
    changed = session.scalar(
        text(f"UPDATE watch SET {assignments} WHERE id = :id RETURNING true"),  # noqa: S608  (constants)
        {"id": watch_id},
    )
    if not changed:
        raise unknown(watch_id)


def _require(session: Session, watch_id: int) -> None:
    if not session.scalar(text("SELECT true FROM watch WHERE id = :id"), {"id": watch_id}):
        raise unknown(watch_id)


_OF_JOBS = ("listing_range", "shard", "skip", "ignored", "naming", "job_key", "notice")

# Results of further stages say for which job they are, and whether they are wanted again is told by what that job was
# asked for. So jobs with such stages stay. So do those with failures: these say why images have no record.
_OLD = """
    SELECT job.id FROM job
    WHERE job.watch_id IS NOT NULL AND job.of_keys AND job.stage = 'recognition'
        AND job.state IN ('done', 'cancelled') AND job.finished_at < now() - make_interval(days => :days)
        AND job.failed = 0 AND NOT EXISTS (SELECT FROM failure WHERE failure.job_id = job.id)
        AND NOT EXISTS (SELECT FROM job AS follower WHERE follower.with_job_id = job.id)
        AND NOT EXISTS (SELECT FROM watch WHERE watch.event_job_id = job.id)
        AND NOT EXISTS (SELECT FROM notice WHERE notice.job_id = job.id AND due_at IS NOT NULL)
    ORDER BY job.id LIMIT :limit FOR UPDATE OF job SKIP LOCKED
"""


def forget_old_jobs(session: Session, days: int, limit: int = 100) -> int:
    """Delete jobs on the keys of events that ended so many days ago. What they recorded stays.

    Args:
        session: the transaction.
        days: jobs that ended later stay.
        limit: at most so many.

    Returns:
        How many.
    """
    ids = {"ids": list(session.scalars(text(_OLD), {"days": days, "limit": limit}))}
    if ids["ids"]:
        for table in _OF_JOBS:
            session.execute(text(f"DELETE FROM {table} WHERE job_id = ANY(:ids)"), ids)  # noqa: S608  (constants)
        session.execute(text("DELETE FROM job WHERE id = ANY(:ids)"), ids)
    return len(ids["ids"])


# The schedule ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Due:
    """A watch whose row is locked, and what is due. Times are the database's."""

    id: int
    archive_id: int
    archive_uri: str
    prefix: str
    asks: dict[str, Any]
    priority: int
    is_listing_due: bool
    lists_now: bool
    open_listing: int | None
    has_keys: bool


def due(session: Session) -> list[Due]:
    """Lock the watches for which something is to be done now, and return them. Others are busy with the rest."""
    rows = session.execute(
        text(
            """
            SELECT watch.id, watch.archive_id, archive.uri AS archive_uri, watch.prefix, asks, watch.priority,
                next_listing_at <= now() AS is_listing_due,
                list_now_since IS NOT NULL AS lists_now,
                CASE WHEN listing.state IN ('running', 'paused') THEN listing.id END AS open_listing,
                may_look AND EXISTS (
                    SELECT FROM watch_event WHERE watch_id = watch.id AND (
                        seen_at <= now() - make_interval(secs => settle_seconds)
                        OR first_at <= now() - make_interval(secs => greatest(30, 10 * settle_seconds)))) AS has_keys
            FROM watch JOIN archive ON archive.id = watch.archive_id
                LEFT JOIN job AS listing ON listing.id = watch.listing_job_id
                LEFT JOIN job AS looking ON looking.id = watch.event_job_id
                CROSS JOIN LATERAL (
                    SELECT coalesce(looking.state NOT IN ('running', 'paused'), true)
                        AND (failures = 0 OR not_before IS NULL OR not_before <= now())
                        AND coalesce(event_job_began_at + make_interval(secs => :between) <= now(), true) AS may_look
                ) AS event
            WHERE NOT is_paused AND (
                (next_listing_at <= now() AND (failures = 0 OR not_before IS NULL OR not_before <= now())
                 -- What changes while a folder is listed for the first time is told, if that begins soon.
                 AND (events <> 'inotify' OR listing_job_id IS NOT NULL OR listening_since IS NOT NULL
                      OR event_error IS NOT NULL OR next_listing_at < now() - interval '10 seconds'))
                OR (list_now_since IS NOT NULL AND (not_before IS NULL OR not_before <= now())
                    AND coalesce(listing.state NOT IN ('running', 'paused'), true))
                OR (may_look AND EXISTS (SELECT FROM watch_event WHERE watch_id = watch.id)))
            ORDER BY watch.id FOR UPDATE OF watch SKIP LOCKED
            """
        ),
        {"between": LEAST_SECONDS_BETWEEN_JOBS},
    )
    return [Due(**row._mapping) for row in rows]  # noqa: SLF001


def note(session: Session, watch_id: int, words: str) -> None:
    """Record what a watch waits for."""
    session.execute(
        text("UPDATE watch SET note = :note WHERE id = :id AND note IS DISTINCT FROM :note"),
        {"note": words, "id": watch_id},
    )


def skip_listing(session: Session, watch_id: int, note: str) -> None:
    """Leave out a listing that is due. ``note`` says why."""
    session.execute(
        text(
            """UPDATE watch SET note = :note, next_listing_at = now() + make_interval(secs => every_seconds)
               WHERE id = :id"""
        ),
        {"id": watch_id, "note": note},
    )


def begin_listing(session: Session, watch_id: int, job_id: int) -> None:
    """Record the job that lists everything, in the transaction that makes it. The next one is due a period later."""
    session.execute(
        text(
            """UPDATE watch SET listing_job_id = :job_id, listing_began_at = now(), note = NULL,
               list_now_since = NULL, list_now_reason = NULL,
               next_listing_at = now() + make_interval(secs => every_seconds) WHERE id = :id"""
        ),
        {"id": watch_id, "job_id": job_id},
    )


def begin_looking(session: Session, watch_id: int, job_id: int) -> int:
    """Give a job the keys that have settled, in the transaction that makes it. Return how many."""
    row = session.execute(
        text(
            """
            WITH taken AS (
                DELETE FROM watch_event USING watch WHERE watch.id = :id AND watch_id = watch.id AND (
                    seen_at <= now() - make_interval(secs => settle_seconds)
                    OR first_at <= now() - make_interval(secs => greatest(30, 10 * settle_seconds)))
                RETURNING key, first_at
            ), given AS (INSERT INTO job_key (job_id, key) SELECT :job_id, key FROM taken)
            SELECT count(*) AS keys, min(first_at) AS oldest_at FROM taken
            """
        ),
        {"id": watch_id, "job_id": job_id},
    ).one()
    session.execute(
        text(
            """UPDATE watch SET event_job_id = :job_id, event_job_began_at = now(), event_job_oldest_at = :oldest_at
               WHERE id = :id"""
        ),
        {"id": watch_id, "job_id": job_id, "oldest_at": row.oldest_at},
    )
    return int(row.keys)


@dataclass(frozen=True, slots=True)
class Ended:
    """A job of a watch that has ended since the watch took note of it."""

    watch_id: int
    job_id: int
    is_listing: bool
    state: str
    note: str | None
    began_at: datetime
    finished_at: datetime
    oldest_at: datetime | None


def ended(session: Session) -> list[Ended]:
    """Lock the watches with a job whose end was not taken note of, and return these jobs. A resumed job ends again."""
    ends: list[Ended] = []
    for kind, is_listing in (("listing", True), ("event", False)):
        began, oldest = ("listing_began_at", "NULL") if is_listing else ("event_job_began_at", "event_job_oldest_at")
        rows = session.execute(
            text(
                f"""SELECT watch.id AS watch_id, job.id AS job_id, job.state, job.note, {began} AS began_at,
                    job.finished_at, CAST({oldest} AS timestamptz) AS oldest_at
                    FROM watch JOIN job ON job.id = {kind}_job_id
                    WHERE job.finished_at IS NOT NULL AND {kind}_settled_at IS DISTINCT FROM job.finished_at
                    ORDER BY watch.id FOR UPDATE OF watch SKIP LOCKED"""  # noqa: S608  (constants)
            )
        )
        ends += [Ended(is_listing=is_listing, **row._mapping) for row in rows]  # noqa: SLF001
    return ends


def settle(session: Session, end: Ended) -> None:
    """Take note of the end of a job: when everything was listed, how long pictures took, or a failure and a pause.

    After a listing, the next one that is out of turn waits as long as this one took: half of the time may be listing.
    """
    kind = "listing" if end.is_listing else "event"
    if end.state == "failed":
        # The keys of the job are not looked at. A listing finds them.
        changes = f"""failures = failures + 1, error = :error,
            not_before = now() + make_interval(secs => least(:most, greatest(60,
                CASE WHEN :is_listing THEN every_seconds ELSE 0 END) * power(2, least(failures, 12)))),
            next_listing_at = greatest(next_listing_at, CASE WHEN :is_listing THEN now()
                + make_interval(secs => least(:most, every_seconds * power(2, least(failures, 12)))) ELSE now() END),
            list_now_since = {"list_now_since" if end.is_listing else "coalesce(list_now_since, now())"},
            list_now_reason = {"list_now_reason" if end.is_listing else "coalesce(list_now_reason, :error)"}"""
    elif end.is_listing and end.state == "done":
        changes = """failures = 0, error = NULL, listed_at = :finished_at,
            not_before = :finished_at + least(CAST(:finished_at AS timestamptz) - :began_at, interval '1 hour')"""
    elif end.state == "done":
        changes = """failures = 0, error = NULL, searchable_after_seconds =
            extract(epoch FROM CAST(:finished_at AS timestamptz) - CAST(:oldest_at AS timestamptz))"""
    else:  # cancelled by a person
        changes = "note = :cancelled"
    session.execute(
        text(f"UPDATE watch SET {kind}_settled_at = :finished_at, {changes} WHERE id = :id"),  # noqa: S608  (constants)
        {
            "id": end.watch_id,
            "is_listing": end.is_listing,
            "error": f"job {end.job_id} failed: {end.note or 'see `ramq job`'}",
            "cancelled": f"job {end.job_id} was cancelled",
            "most": MOST_WAIT_SECONDS,
            "finished_at": end.finished_at,
            "began_at": end.began_at,
            "oldest_at": end.oldest_at,
        },
    )

"""What a watch is told: the keys that events name, and which worker receives them.

A watch's row is locked before its events. So what an event adds and what a job takes cannot wait for each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import text

from storage.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

Events = Literal["none", "sqs", "webhook", "inotify"]

MOST_KEYS = 20_000
"""Keys of a watch that may wait to be looked at. If there are more, everything is listed, which needs none of them."""

LEASE_SECONDS = 15.0
"""How long a worker that receives the events of a watch may be silent before another one does."""


def unknown(watch_id: int) -> NotFoundError:
    """Return the error that there is no such watch."""
    return NotFoundError(f"there is no watch {watch_id}; see `ramq watch list`")


@dataclass(frozen=True, slots=True)
class Receiver:
    """What takes the events of a watch has to know of it."""

    id: int
    events: Events
    archive_uri: str
    prefix: str
    queue_url: str | None
    secret_hash: bytes | None
    is_new: bool = False


_RECEIVER = """watch.id, watch.events, archive.uri AS archive_uri, watch.prefix, watch.queue_url, watch.secret_hash"""


def receiver(session: Session, watch_id: int) -> Receiver:
    """Return where the events of a watch may be about. Raises ``NotFoundError``."""
    row = session.execute(
        text(f"SELECT {_RECEIVER} FROM watch JOIN archive ON archive.id = archive_id WHERE watch.id = :id"),  # noqa: S608
        {"id": watch_id},
    ).one_or_none()
    if row is None:
        raise unknown(watch_id)
    return Receiver(**row._mapping)  # noqa: SLF001  (SQLAlchemy's documented name)


def store(session: Session, watch_id: int, keys: Sequence[str], *, ignored: int = 0) -> None:
    """Store keys that events named, each once. Nothing is done if the watch was removed.

    While everything waits to be listed anyway, no key is kept. If too many wait, everything is listed instead.

    Args:
        session: a transaction.
        watch_id: the watch.
        keys: of its archive; one with a slash at its end stands for what was below a folder.
        ignored: how many other events were about something else.
    """
    lists_all = session.scalar(
        text("SELECT list_now_since IS NOT NULL FROM watch WHERE id = :id FOR NO KEY UPDATE"), {"id": watch_id}
    )
    if lists_all is None:
        return
    session.execute(
        text(
            """UPDATE watch SET events_taken = events_taken + :taken, events_ignored = events_ignored + :ignored,
               event_error = NULL WHERE id = :id"""
        ),
        {"id": watch_id, "taken": len(keys), "ignored": ignored},
    )
    if lists_all or not keys:
        return
    session.execute(
        text(
            """INSERT INTO watch_event (watch_id, key) SELECT :id, key FROM unnest(CAST(:keys AS text[])) AS key
               ON CONFLICT (watch_id, key) DO UPDATE SET seen_at = clock_timestamp()"""
        ),
        {"id": watch_id, "keys": list(dict.fromkeys(keys))},
    )
    waiting = session.scalar(
        text("SELECT count(*) FROM (SELECT FROM watch_event WHERE watch_id = :id LIMIT :limit) AS waiting"),
        {"id": watch_id, "limit": MOST_KEYS + 1},
    )
    if int(waiting or 0) > MOST_KEYS:
        list_now(session, watch_id, f"events named more than {MOST_KEYS:,} keys")


def list_now(session: Session, watch_id: int, reason: str) -> None:
    """Let everything be listed soon. The keys that wait are then found by the listing."""
    session.execute(
        text(
            """UPDATE watch SET list_now_since = coalesce(list_now_since, now()),
               list_now_reason = coalesce(list_now_reason, :reason) WHERE id = :id"""
        ),
        {"id": watch_id, "reason": reason},
    )
    session.execute(text("DELETE FROM watch_event WHERE watch_id = :id"), {"id": watch_id})


def note_event_error(session: Session, watch_id: int, error: str) -> None:
    """Record why events are not received, in words."""
    session.execute(text("UPDATE watch SET event_error = :error WHERE id = :id"), {"id": watch_id, "error": error})


# Receiving ---------------------------------------------------------------------------------------------------------


def lease(session: Session, owner: str, *, declined: Sequence[int] = ()) -> list[Receiver]:
    """Take or renew the leases of the watches whose events a worker has to receive. Return those that it holds.

    Args:
        session: its transaction is the claim.
        owner: the worker.
        declined: watches whose events this worker cannot receive.
    """
    rows = session.execute(
        text(
            f"""
            WITH held AS (
                SELECT watch.id, coalesce(owner = :owner AND lease_until > now(), false) AS was_held FROM watch
                WHERE events IN ('sqs', 'inotify') AND NOT is_paused AND watch.id <> ALL(CAST(:declined AS bigint[]))
                  AND (owner = :owner OR lease_until IS NULL OR lease_until < now())
                ORDER BY watch.id FOR UPDATE SKIP LOCKED
            )
            UPDATE watch SET owner = :owner, lease_until = now() + make_interval(secs => :seconds),
                listening_since = CASE WHEN was_held THEN listening_since END
            FROM held, archive WHERE watch.id = held.id AND archive.id = watch.archive_id
            RETURNING {_RECEIVER}, NOT was_held AS is_new
            """  # noqa: S608  (a constant)
        ),
        {"owner": owner, "seconds": LEASE_SECONDS, "declined": list(declined)},
    )
    return [Receiver(**row._mapping) for row in rows]  # noqa: SLF001


def begin_listening(session: Session, watch_id: int, owner: str, *, missed: str | None) -> None:
    """Record that events are received from now on. ``missed``: why some may have been missed; None: none were.

    What was missed is found by listing everything. A watch that was never listed lists anyway.
    """
    was_listed = session.scalar(
        text(
            """UPDATE watch SET listening_since = now(), event_error = NULL WHERE id = :id AND owner = :owner
               RETURNING listing_job_id IS NOT NULL"""
        ),
        {"id": watch_id, "owner": owner},
    )
    if missed is not None and was_listed:
        list_now(session, watch_id, missed)


def let_go(session: Session, owner: str, watch_ids: Sequence[int]) -> None:
    """Give up the leases of watches, so that another worker takes them at once."""
    session.execute(
        text(
            """UPDATE watch SET owner = NULL, lease_until = NULL, listening_since = NULL
               WHERE owner = :owner AND id = ANY(:ids)"""
        ),
        {"owner": owner, "ids": list(watch_ids)},
    )

"""Watches as the command line, the API, the page, the metrics and the checks show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from sqlalchemy import text

from storage.ledger.views import PRIORITY_NAMES, Priority
from storage.ledger.watch_events import unknown
from storage.objects.source import part_of

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from storage.ledger.watch_events import Events

WatchState = Literal["active", "failing", "paused"]


@dataclass(frozen=True, slots=True)
class WatchView:
    """A watch and how it is doing.

    Attributes:
        source: what it watches: an archive, or a part of one.
        state: ``failing``: its last job failed, and it pauses before the next one.
        every_seconds: from the beginning of one listing to that of the next one.
        settle_seconds: how long a key has to be quiet before it is looked at.
        events: what tells of changes: ``none``, ``sqs``, ``webhook`` or ``inotify``.
        events_state: in words: whether events are received, and if not, why.
        is_told: whether events are received now.
        receiver: the worker that receives events; None: none does, or they are sent to the web server.
        events_waiting: keys that no job has looked at yet.
        oldest_event_seconds: age of the oldest of these keys; None if there is none.
        listing_job: the last job that listed everything; None: none has begun.
        is_listing: whether that job has not ended.
        listed_at: when everything was last listed and worked off.
        overdue_seconds: by how much the next listing is late; 0: it is not.
        list_now_reason: why everything is listed before it is due.
        event_job: the last job on keys that events named.
        searchable_after_seconds: how long the oldest key of that job waited, from the event to the end of the job.
        failures: how many jobs failed since one succeeded.
        error: why the last one failed.
        note: why a listing was left out.
        events_taken: keys that events named since the watch was added.
        events_ignored: events of other buckets, outside of the prefix, or about something else than a change.
    """

    id: int
    source: str
    archive_id: int
    state: WatchState
    every_seconds: int
    settle_seconds: float
    events: Events
    events_state: str
    is_told: bool
    queue_url: str | None
    receiver: str | None
    events_waiting: int
    oldest_event_seconds: float | None
    events_taken: int
    events_ignored: int
    model: str
    captioner: str
    stages: list[str]
    vocabulary: str | None
    priority: Priority
    include: list[str]
    exclude: list[str]
    defaults: bool
    pages: bool
    listing_job: int | None
    is_listing: bool
    listed_at: datetime | None
    next_listing_at: datetime
    overdue_seconds: float
    list_now_reason: str | None
    event_job: int | None
    searchable_after_seconds: float | None
    failures: int
    error: str | None
    note: str | None
    created_at: datetime


_VIEW = """
    SELECT watch.*, archive.uri AS archive_uri,
        (SELECT name FROM vocabulary WHERE vocabulary.id = CAST(watch.asks->>'vocabulary_id' AS integer)) AS vocabulary,
        listing.state IN ('running', 'paused') AS is_listing, listing.note AS listing_note,
        coalesce(lease_until > now(), false) AND listening_since IS NOT NULL AS is_heard,
        extract(epoch FROM now() - greatest(next_listing_at, not_before)) AS late_seconds,
        waiting.keys AS events_waiting, extract(epoch FROM clock_timestamp() - waiting.oldest_at) AS oldest_seconds
    FROM watch JOIN archive ON archive.id = watch.archive_id LEFT JOIN job AS listing ON listing.id = listing_job_id
    CROSS JOIN LATERAL (
        SELECT count(*) AS keys, min(first_at) AS oldest_at FROM watch_event WHERE watch_id = watch.id
    ) AS waiting
"""


def views(session: Session) -> list[WatchView]:
    """Return every watch, oldest first."""
    return [_view(row) for row in session.execute(text(f"{_VIEW} ORDER BY watch.id"))]


def view(session: Session, watch_id: int) -> WatchView:
    """Return one watch. Raises ``NotFoundError``."""
    row = session.execute(text(f"{_VIEW} WHERE watch.id = :id"), {"id": watch_id}).one_or_none()
    if row is None:
        raise unknown(watch_id)
    return _view(row)


def _view(row: Row[Any]) -> WatchView:
    asks = row.asks
    is_listing = bool(row.is_listing)
    is_told, words = _told(row)
    return WatchView(
        id=row.id,
        source=part_of(row.archive_uri, row.prefix).uri,
        archive_id=row.archive_id,
        state="paused" if row.is_paused else "failing" if row.failures else "active",
        every_seconds=row.every_seconds,
        settle_seconds=row.settle_seconds,
        events=cast("Events", row.events),
        events_state=words,
        is_told=is_told,
        queue_url=row.queue_url,
        receiver=row.owner if row.is_heard else None,
        events_waiting=row.events_waiting,
        oldest_event_seconds=None if row.oldest_seconds is None else max(0.0, float(row.oldest_seconds)),
        events_taken=row.events_taken,
        events_ignored=row.events_ignored,
        model=asks["model"],
        captioner=asks["captioner"],
        stages=list(asks["stages"]),
        vocabulary=row.vocabulary,
        priority=PRIORITY_NAMES[row.priority],
        include=asks["include"],
        exclude=asks["exclude"],
        defaults=asks["defaults"],
        pages=bool(asks.get("pages")),
        listing_job=row.listing_job_id,
        is_listing=is_listing,
        listed_at=row.listed_at,
        next_listing_at=row.next_listing_at,
        overdue_seconds=0.0 if row.is_paused or is_listing else max(0.0, float(row.late_seconds)),
        list_now_reason=row.list_now_reason,
        event_job=row.event_job_id,
        searchable_after_seconds=row.searchable_after_seconds,
        failures=row.failures,
        error=row.error,
        note=row.note or (row.listing_note if is_listing else None),
        created_at=row.created_at,
    )


def _told(row: Row[Any]) -> tuple[bool, str]:
    """Return whether events are received, and that in words."""
    if row.events == "none":
        return False, "no events: only the schedule"
    if row.is_paused:
        return False, "paused"
    if row.events == "webhook":
        return True, f"waiting for events at POST /v1/watches/{row.id}/events"
    if row.event_error:
        return bool(row.is_heard), row.event_error
    if row.is_heard:
        return True, "receiving"
    return False, "no worker receives events yet"

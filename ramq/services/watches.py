"""Watches: archives that are listed every so often, and looked at where events say that something changed."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

from ramq.services.author import LOCAL
from ramq.services.job_wishes import priority_named
from storage.database import unit_of_work
from storage.errors import ForbiddenError, UsageError
from storage.ledger import quotas, watch_events, watch_views, watches
from storage.ledger.views import PRIORITIES
from storage.objects.events import told
from storage.objects.source import parse_source
from storage.results import archives, vocabularies

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ramq.services.job_wishes import JobWishes
    from ramq.services.jobs import JobClient
    from storage.ledger.watch_events import Events
    from storage.ledger.watch_views import WatchView

LEAST_EVERY_SECONDS, MOST_EVERY_SECONDS = 60, 30 * 86_400
MOST_SETTLE_SECONDS = 3_600.0
DEFAULT_EVERY = "1h"
DEFAULT_SETTLE_SECONDS = 2.0

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}


class SecretError(ForbiddenError):
    """The sender of an event does not know the secret of the watch."""

    code = "secret"


class NewWatch(NamedTuple):
    """A watch, and the secret that senders of its events have to know; None: nobody sends them."""

    watch: WatchView
    secret: str | None


class Taken(NamedTuple):
    """What became of the events in a request."""

    taken: int
    ignored: int


class WatchClient:
    """Watches. Thread-safe. Every method is one transaction.

    Args:
        engine: the database.
        jobs: says what the jobs of a watch may be asked for.
    """

    def __init__(self, engine: Engine, jobs: JobClient) -> None:
        self._engine = engine
        self._jobs = jobs

    def add(
        self,
        source: str,
        wishes: JobWishes,
        *,
        every: str | float = DEFAULT_EVERY,
        events: str = "none",
        settle_seconds: float = DEFAULT_SETTLE_SECONDS,
        by: str = LOCAL,
    ) -> NewWatch:
        """Watch an archive, or a part of one. It is listed at once.

        Args:
            source: ``s3://bucket/prefix`` or a folder.
            wishes: what its jobs are asked for.
            every: from the beginning of a listing to that of the next one: seconds, or for example ``90s``, ``15m``,
                ``1h``, ``1d``.
            events: ``none``, ``inotify`` (a folder), ``webhook`` (a bucket whose store sends them here) or
                ``sqs:QUEUE-URL``.
            settle_seconds: how long a key has to be quiet before it is looked at.
            by: who adds it, and so starts its jobs.

        Raises:
            UsageError: an argument is invalid, or the source does not exist.
            ForbiddenError: the allow-list or the permissions of the source forbid reading it.
            StoreUnavailableError, CredentialsError: the object store cannot be accessed.
            ConflictError: this source is watched already.
            QuotaError: the priority is higher than this user may ask for.
        """
        every_seconds = seconds_of(every)
        if not 0 <= settle_seconds <= MOST_SETTLE_SECONDS:
            raise UsageError(f"--settle is a number of seconds from 0 to {MOST_SETTLE_SECONDS:,.0f}")
        kind, queue_url = events_named(events)
        _require_fit(kind, source)
        place = self._jobs.place_to_watch(source)
        settled, selection = self._jobs.settled(wishes), wishes.selection
        secret = new_secret() if kind == "webhook" else None
        priority = PRIORITIES[priority_named(wishes.priority)]
        with unit_of_work(self._engine) as session:
            quotas.require_priority(session, by, priority)
            archive, prefix = archives.ensure(session, place)
            vocabulary = vocabularies.find(session, wishes.vocabulary).id if wishes.vocabulary else None
            asked = watches.Asked(
                asks={
                    **asdict(settled),
                    "vocabulary_id": vocabulary,
                    "said_by": by,
                    "include": list(selection.include),
                    "exclude": list(selection.exclude),
                    "defaults": selection.has_defaults,
                    "pages": wishes.pages,
                },
                priority=priority,
                every_seconds=every_seconds,
                settle_seconds=settle_seconds,
                events=kind,
                queue_url=queue_url,
                secret_hash=None if secret is None else _hash(secret),
            )
            watch_id = watches.add(session, archive.id, prefix, asked)
            return NewWatch(watch_views.view(session, watch_id), secret)

    def list(self) -> list[WatchView]:
        """Return every watch, oldest first."""
        with unit_of_work(self._engine) as session:
            return watch_views.views(session)

    def get(self, watch_id: int) -> WatchView:
        """Return a watch. Raises ``NotFoundError``."""
        with unit_of_work(self._engine) as session:
            return watch_views.view(session, watch_id)

    def pause(self, watch_id: int) -> WatchView:
        """Begin no further job. Events in a queue stay there, and events that are sent are kept."""
        with unit_of_work(self._engine) as session:
            watches.pause(session, watch_id)
            return watch_views.view(session, watch_id)

    def resume(self, watch_id: int) -> WatchView:
        """Go on with a paused or failing watch."""
        with unit_of_work(self._engine) as session:
            watches.resume(session, watch_id)
            return watch_views.view(session, watch_id)

    def remove(self, watch_id: int) -> WatchView:
        """Watch no longer. The archive, its results and the watch's jobs stay. Return the watch as it was."""
        with unit_of_work(self._engine) as session:
            view = watch_views.view(session, watch_id)
            watches.remove(session, watch_id)
            return view

    def renew_secret(self, watch_id: int) -> NewWatch:
        """Change the secret of a watch that takes events by HTTP. The old one no longer counts."""
        secret = new_secret()
        with unit_of_work(self._engine) as session:
            watches.renew_secret(session, watch_id, _hash(secret))
            return NewWatch(watch_views.view(session, watch_id), secret)

    def take(self, watch_id: int, secret: str, body: bytes) -> Taken:
        """Take events that a store sends: the message of S3's event notifications.

        Raises:
            SecretError: the secret is wrong, or there is no such watch: a stranger is not told which.
            EventError: the message is no event.
        """
        with unit_of_work(self._engine) as session:
            try:
                receiver = watch_events.receiver(session, watch_id)
            except UsageError:
                receiver = None
            expected = receiver.secret_hash if receiver is not None else None
            if receiver is None or expected is None or not hmac.compare_digest(expected, _hash(secret)):
                raise SecretError(f"send the secret of watch {watch_id} as `Authorization: Bearer SECRET`")
            found = told(body, parse_source(receiver.archive_uri).root, receiver.prefix)
            watch_events.store(session, watch_id, found.keys, ignored=found.ignored)
            return Taken(len(found.keys), found.ignored)


def new_secret() -> str:
    """Return a secret of 256 random bits."""
    return f"ramqw_{secrets.token_urlsafe(32)}"


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def seconds_of(every: str | float) -> int:
    """Return the seconds that ``every`` says: a number, or a number and one of s, m, h, d. Raises ``UsageError``."""
    found = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,6})?)\s*(s|min|m|h|d)?\s*", str(every))
    seconds = float(found[1]) * _UNITS[found[2] or "s"] if found else 0.0
    if not LEAST_EVERY_SECONDS <= seconds <= MOST_EVERY_SECONDS:
        raise UsageError(f"--every {every!r} is not a time from 60s to 30d: write for example 15m, 1h or 1d")
    return int(seconds)


def events_named(events: str) -> tuple[Events, str | None]:
    """Return the kind of events, and the URL of the queue. Raises ``UsageError``."""
    kind, _, url = events.partition(":")
    if kind == "sqs":
        from storage.objects.sqs import check_url  # noqa: PLC0415  (boto3 takes a third of a second to import)

        check_url(url)
        return "sqs", url
    if events in {"none", "webhook", "inotify"}:
        return events, None  # type: ignore[return-value]  # one of the literals
    raise UsageError(f"--events {events[:100]!r} is unknown: write inotify, webhook, sqs:QUEUE-URL, or leave it out")


def _require_fit(kind: Events, source: str) -> None:
    is_bucket = source.startswith("s3://")
    if kind != "none" and source.startswith("tar+"):
        raise UsageError("events do not tell of the members of tar files: leave --events out")
    if kind == "inotify" and is_bucket:
        raise UsageError("--events inotify is for folders; for a bucket: sqs:QUEUE-URL or webhook")
    if kind in {"sqs", "webhook"} and not is_bucket:
        raise UsageError(f"--events {kind} is for buckets; for a folder: inotify")
    if kind == "inotify" and sys.platform != "linux":
        raise UsageError("--events inotify needs Linux; leave it out to list the folder every so often")

"""Which jobs the watches begin now. Any worker does this; the lock of a watch's row lets one at a time do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from storage.database import limit_idleness, unit_of_work
from storage.errors import ForbiddenError
from storage.ledger import jobs, named_keys, quotas, watch_events, watches
from storage.ledger.turns import LOCAL
from storage.ledger.views import PAGES, PRIORITIES, PRIORITY_NAMES
from storage.objects.ignoring import Selection
from storage.objects.source import parse_source, part_of, require_allowed
from storage.results import teachings
from storage.tables import Archive

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.ledger.watches import Due

log = structlog.get_logger()

_MORE_URGENT = {PRIORITIES["low"]: PRIORITIES["normal"]}
"""Jobs on a few new keys go before the listing of everything, of which there may be very much."""


class Schedule:
    """Makes the jobs of watches.

    Args:
        engine: the database.
        archive_allow: roots that may be read, as in ``RAMQ_ARCHIVE_ALLOW`` of this worker; empty: all.
    """

    def __init__(self, engine: Engine, archive_allow: tuple[str, ...] = ()) -> None:
        self._engine = engine
        self._allow = archive_allow

    def step(self) -> list[int]:
        """Take note of the jobs that have ended, and begin those that are due. Return the new ones."""
        with unit_of_work(self._engine) as session:
            limit_idleness(session)
            for end in watches.ended(session):
                watches.settle(session, end)
        with unit_of_work(self._engine) as session:
            limit_idleness(session)
            begun = [job_id for due in watches.due(session) for job_id in self._begin(session, due)]
        for job_id in begun:
            log.info("watch began a job", job=job_id)
        return begun

    def _begin(self, session: Session, due: Due) -> list[int]:
        try:
            require_allowed(parse_source(due.archive_uri), self._allow, reachable=False)
        except ForbiddenError as error:
            watches.note(session, due.id, f"a worker may not read it: {error}")  # another one may
            return []
        if (due.is_listing_due or due.lists_now) and due.open_listing is None:
            job_id = _create(session, due, of_keys=False)
            watches.begin_listing(session, due.id, job_id)
            return [job_id]
        if due.is_listing_due:
            note = f"a listing was left out: job {due.open_listing} has not ended"
            watches.skip_listing(session, due.id, note)
        if not due.has_keys:
            return []
        job_id = _create(session, due, of_keys=True)
        watches.begin_looking(session, due.id, job_id)
        if not named_keys.expand_folders(session, job_id, due.archive_id, watch_events.MOST_KEYS):
            watch_events.list_now(session, due.id, f"folders with more than {watch_events.MOST_KEYS:,} images are gone")
        return [job_id]


def _create(session: Session, due: Due, *, of_keys: bool) -> int:
    asks, archive = due.asks, session.get_one(Archive, due.archive_id)
    wanted = _MORE_URGENT.get(due.priority, PRIORITIES["high"]) if of_keys else due.priority
    # The quota may be newer than the watch.
    priority = PRIORITY_NAMES[min(wanted, quotas.highest_priority(session, asks.get("said_by") or LOCAL))]
    # What people taught the model since counts, as for a job that somebody enqueues.
    vocabulary_id = asks["vocabulary_id"] or teachings.tags_in_use(session, asks["model"])
    source = part_of(due.archive_uri, due.prefix).uri
    job_id = jobs.create(
        session,
        archive=archive,
        source=source,
        prefix=due.prefix,
        model=asks["model"],
        captioner=asks["captioner"],
        priority=priority,
        features=asks["features"],
        vocabulary_id=vocabulary_id,
        selection=Selection(tuple(asks["include"]), tuple(asks["exclude"]), has_defaults=asks["defaults"]),
        options={PAGES: True} if asks.get("pages") else None,  # watches that are older do not say
        watch_id=due.id,
        of_keys=of_keys,
        said_by=asks.get("said_by"),
    )
    for stage, model in asks["stages"].items():
        jobs.create(
            session,
            archive=archive,
            source=source,
            prefix=due.prefix,
            model=model,
            captioner="none",
            priority=priority,
            stage=stage,
            with_job_id=job_id,
            watch_id=due.id,
            of_keys=of_keys,
            said_by=asks.get("said_by"),
        )
    return job_id

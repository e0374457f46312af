"""Plan jobs on the keys that events named: each is asked of the store, which alone says what became of it.

As with an archive, a page is one transaction. The cursor after it is a key.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from storage.database import unit_of_work
from storage.ledger import ignored as ignored_keys
from storage.ledger import listings, named_keys
from storage.objects.base import LOOKS_AT_ONCE, MISSING_VERSION, is_below, marked
from storage.objects.folder import FolderStore
from storage.objects.ignoring import Ignoring
from storage.objects.source import open_store, parse_source
from storage.results import contents, file_pages, images
from workers.ending import finish_jobs
from workers.file_pages import upsert_page
from workers.recorded import add_page, follow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Engine

    from storage.ledger.listings import ClaimedListing
    from storage.objects.base import ObjectInfo, ObjectStore, S3Options
    from workers.file_pages import PageLimits
    from workers.sidecars import Sidecars

log = structlog.get_logger()

PAGE = 500
"""Keys that are asked for before any of them is recorded."""

STEP_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class NamedKeys:
    """Looks at the keys of jobs.

    Attributes:
        engine: the database.
        s3: how to reach buckets.
        limits: images per shard, and pages per file.
        sidecars: reads those beside images; None: they are not read.
    """

    engine: Engine
    s3: S3Options
    limits: PageLimits
    sidecars: Sidecars | None

    def look(self, listing: ClaimedListing, generation_id: int, should_stop: Callable[[], bool]) -> None:
        """Continue to look at the keys of a job, for a few seconds.

        What is there is recorded as a listing would. What is not there is marked as missing if it is known. Sidecars
        are read before the images of their page are recorded: whoever writes these finds them, as those of earlier
        events.

        Raises:
            ListingLostError: another planner has this listing now.
            StoreUnavailableError, CredentialsError, UsageError: as when an archive is listed.
        """
        until, after, is_complete = time.monotonic() + STEP_SECONDS, listing.cursor, False
        while not is_complete and not should_stop() and time.monotonic() < until:
            with unit_of_work(self.engine) as session:
                keys = named_keys.after(session, listing.job_id, after, PAGE)
                known = images.versions(session, listing.archive_id, keys)
            is_complete = len(keys) < PAGE
            if keys:
                after = keys[-1]
                store = open_store(parse_source(listing.archive_uri), self.s3)
                seen = _look(listing, store, keys, known)
                if self.sidecars is not None:
                    self.sidecars.read_named(listing, lambda: store, seen)  # noqa: B023  (called at once)
                _record(self.engine, listing, generation_id, self.limits, after, seen)
        with unit_of_work(self.engine) as session:
            listings.require(session, listing)
            if not is_complete:
                listings.release(session, listing)
                return
            named_keys.forget(session, listing.job_id)
            listings.lock_running(session, listing)
            listings.end(session, listing)
            follow(session, listing.job_id, self.limits.shard_size)
        finish_jobs(self.engine)


def _look(
    listing: ClaimedListing, store: ObjectStore, keys: Sequence[str], known: Mapping[str, str]
) -> list[ObjectInfo]:
    """Return what the store has of these keys, in their order. What the job leaves out has its reason.

    ``known``: the versions of those that are known. A file of which an event told is another version also if it has the
    size and the time of the known one: it may have traded names with another file.
    """
    archive = parse_source(listing.archive_uri)
    store.check()
    ignoring = Ignoring(listing.selection, "s3" if archive.scheme == "s3" else "folder", listing.prefix, archive.prefix)
    store.read_rules(ignoring, keys)
    below = [key for key in keys if is_below(key, listing.prefix)]
    with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
        if isinstance(store, FolderStore):
            seen = list(pool.map(store.exact, below, [known.get(key, "") for key in below]))
        else:
            seen = list(pool.map(store.stat, below))
    if archive.scheme == "s3":
        # Who knows the secret of a watch may name any key, and a store may refuse to say that it does not exist. If it
        # does, the next listing tells.
        refused = {info.key for info in seen if _is_refused(info) and info.key not in known}
        if refused:
            log.warning("refused by the store and not known, so left to the next listing", keys=sorted(refused)[:5])
            seen = [info for info in seen if info.key not in refused]
    gone = [info for info in seen if info.version == MISSING_VERSION]
    if gone and archive.scheme == "file" and _is_empty(archive.root):
        # A disk that is not mounted leaves an empty folder. The next listing asks a person.
        seen = [info for info in seen if info.version != MISSING_VERSION]
    return marked(seen, ignoring)


def _is_refused(info: ObjectInfo) -> bool:
    return info.version.startswith("!") and info.version != MISSING_VERSION


def _is_empty(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _record(
    engine: Engine,
    listing: ClaimedListing,
    generation_id: int,
    limits: PageLimits,
    cursor: str,
    seen: Sequence[ObjectInfo],
) -> None:
    gone = [info.key for info in seen if info.version == MISSING_VERSION]
    there = [info for info in seen if info.version != MISSING_VERSION]
    ignored, kept = [info for info in there if info.ignored], [info for info in there if not info.ignored]
    with unit_of_work(engine) as session:
        listings.require(session, listing)
        pending, _ = upsert_page(session, listing, generation_id, kept, limits)
        missing = named_keys.mark_missing(session, listing.archive_id, gone)
        missing += file_pages.mark_gone(session, listing.archive_id, dict.fromkeys(gone, 1))
        listed = images.ids_of_page(session, listing.archive_id)
        contents.note_recorded(session, listed)
        listings.lock_running(session, listing)
        ignored_keys.add(session, listing.job_id, ignored)
        add_page(session, listing, cursor, listed, pending, limits.shard_size)
        follow(session, listing.job_id, limits.shard_size)
    log.info("looked", keys=len(seen), to_do=len(pending), missing=missing, ignored=len(ignored))

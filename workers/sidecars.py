"""Sidecars of a page of a listing, or that events named: new and changed ones are read, and images get what they say.

No request is made for a picture without one: the listing, or an event, says which sidecars there are. Pictures are not
read again.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog

from ram_core.metadata import NoPixels
from ram_core.metadata.blocks import MOST_BLOCK_BYTES
from storage.database import unit_of_work
from storage.errors import PermanentError, TransientError
from storage.ledger import ignored as ignored_keys
from storage.objects.base import MISSING_VERSION
from storage.results import metadata, sidecars
from workers.pipeline.fetch import TRIES
from workers.pipeline.retry import backoff_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Engine

    from storage.ledger.listings import ClaimedListing
    from storage.objects.base import ObjectInfo, ObjectStore
    from workers.pipeline.decoders import Decoders

AT_ONCE = 16

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sidecars:
    """Reads sidecars.

    Attributes:
        engine: the database.
        decoders: processes that read what is untrusted.
        keep_place: whether to store where images were taken.
    """

    engine: Engine
    decoders: Decoders
    keep_place: bool

    def read(
        self,
        listing: ClaimedListing,
        open_archive: Callable[[], ObjectStore],
        ignored: Sequence[ObjectInfo],
        after: str | None,
        until: str | None,
    ) -> None:
        """Read the new and changed sidecars of a page, and forget those that are gone.

        A sidecar that cannot be read keeps what it said before, and is tried again by the next listing.

        Args:
            listing: of the job.
            open_archive: opens its archive. Called only if there is something to read.
            ignored: keys of the page that the job leaves out: sidecars are among them.
            after: the last key of the page before; None: this is the first.
            until: the last key of the page; None: the end of the listing.

        Raises:
            TransientError: the store is unavailable.
        """
        infos = {info.key: info for info in ignored if _is_sidecar(info)}
        gone: list[str] = []
        if not listing.is_disordered:  # otherwise the end of the listing tells: see ``forget_unlisted``
            with unit_of_work(self.engine) as session:
                gone = sidecars.gone(session, listing.archive_id, (after, until), listing.prefix, list(infos))
        self._take(listing, open_archive, infos, gone)

    def forget_unlisted(self, listing: ClaimedListing, open_archive: Callable[[], ObjectStore]) -> None:
        """Forget the sidecars that a whole listing did not find.

        Args:
            listing: of the job. All of its pages are recorded.
            open_archive: opens its archive.
        """
        with unit_of_work(self.engine) as session:
            found = set(ignored_keys.names(session, listing.job_id, "sidecar"))
            read = sidecars.gone(session, listing.archive_id, (None, None), listing.prefix, [])
        self._take(listing, open_archive, {}, [key for key in read if key not in found])

    def read_named(
        self,
        listing: ClaimedListing,
        open_archive: Callable[[], ObjectStore],
        seen: Sequence[ObjectInfo],
    ) -> None:
        """Read the new and changed sidecars among keys that events named, and forget those that are gone.

        Args:
            listing: of the job.
            open_archive: opens its archive. Called only if there is something to read.
            seen: what the store has of the keys. What the job leaves out has its reason.

        Raises:
            TransientError: the store is unavailable.
        """
        named = {info.key: info for info in seen if info.key.lower().endswith(sidecars.ENDING)}
        infos = {key: info for key, info in named.items() if info.version != MISSING_VERSION and _is_sidecar(info)}
        if named:
            self._take(listing, open_archive, infos, [key for key in named if key not in infos])

    def _take(
        self,
        listing: ClaimedListing,
        open_archive: Callable[[], ObjectStore],
        infos: Mapping[str, ObjectInfo],
        maybe_gone: Sequence[str],
    ) -> None:
        if not infos and not maybe_gone:
            return
        archive_id, job_id = listing.archive_id, listing.job_id
        with unit_of_work(self.engine) as session:
            known = sidecars.versions(session, archive_id, [*infos, *maybe_gone])
        gone = [key for key in maybe_gone if key in known]
        maybe = [info for info in infos.values() if not info.version or info.version != known.get(info.key)]
        read = self._read(open_archive(), maybe, known) if maybe else {}
        if not read and not gone:
            return
        with unit_of_work(self.engine) as session:
            image_ids = sidecars.lock_images(session, archive_id, [*read, *gone])
            sidecars.remove(session, archive_id, gone)
            sidecars.put(session, archive_id, read)
            metadata.join_sidecars(session, image_ids, job_id)
        log.info("sidecars", job=job_id, read=len(read), gone=len(gone), images=len(image_ids))

    def _read(
        self, store: ObjectStore, infos: Sequence[ObjectInfo], known: Mapping[str, str]
    ) -> dict[str, tuple[str, dict[str, Any]]]:
        """Return (version, facts) of the sidecars whose version is not known, by key."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            stated = pool.map(lambda info: info if info.version else store.stat(info.key), infos)
            changed = [info for info in stated if info.version not in {known.get(info.key), MISSING_VERSION}]
            found = list(pool.map(lambda info: self._facts(store, info), changed))
        return {
            info.key: (info.version, facts) for info, facts in zip(changed, found, strict=True) if facts is not None
        }

    def _facts(self, store: ObjectStore, info: ObjectInfo) -> dict[str, Any] | None:
        """Return what a sidecar says; None: it cannot be read."""
        try:
            body = _fetched(store, info)
            _, facts = self.decoders.read_for_all(body, [NoPixels(of_sidecar=True)])
        except PermanentError as error:
            log.warning("sidecar not read", key=info.key, error=str(error))
            return None
        told = asdict(facts if self.keep_place else facts.without_place())
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in told.items()
            if value not in (None, ())
        }


def _is_sidecar(info: ObjectInfo) -> bool:
    return info.ignored == "sidecar" and info.key.lower().endswith(sidecars.ENDING) and not info.stands_for_all


def _fetched(store: ObjectStore, info: ObjectInfo) -> bytes | memoryview:
    for attempt in range(TRIES - 1):
        try:
            return store.fetch(info.key, info.version, MOST_BLOCK_BYTES).body
        except TransientError:
            time.sleep(backoff_seconds(attempt, first=0.2, most=2.0))
    return store.fetch(info.key, info.version, MOST_BLOCK_BYTES).body

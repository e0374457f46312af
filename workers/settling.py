"""Archives that are not listed in the order of their keys' bytes: what is gone is found out when all is listed.

Nothing is inferred from the order, or from what other jobs did meanwhile: each known key that was not listed is looked
up in the store.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from storage.batches import batched
from storage.database import unit_of_work
from storage.ledger import listings, unfound
from storage.objects.base import LOOKS_AT_ONCE, MISSING_VERSION
from storage.objects.parallel_listing import is_sorted
from storage.results import archives, sidecars, vectors
from workers.recorded import LEASE_SECONDS, renew

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine

    from storage.ledger.listings import ClaimedListing
    from storage.objects.base import ObjectInfo, ObjectStore
    from workers.sidecars import Sidecars

_AT_ONCE = 1_000
"""Keys that are looked up between two renewals of the lease."""

log = structlog.get_logger()


def with_order(engine: Engine, listing: ClaimedListing, page: list[ObjectInfo]) -> ClaimedListing:
    """Return a listing that knows whether its store lists keys in the order of their bytes, by its next page.

    What is found out is remembered with the archive. Keys with a fault may not be what the store listed, and lists have
    the order that their makers gave them.
    """
    if listing.is_disordered or listing.manifest_version is not None:
        return listing
    keys = [info.key for info in page if not info.version.startswith("!")]
    return listing if is_sorted([listing.cursor or "", *keys]) else noted(engine, listing)


def noted(engine: Engine, listing: ClaimedListing) -> ClaimedListing:
    """Remember that an archive is not listed in the order of its keys' bytes."""
    log.info("keys are not listed in the order of their bytes", after=listing.cursor)
    with unit_of_work(engine) as session:
        archives.note_disorder(session, listing.archive_id)
    return replace(listing, is_disordered=True)


@dataclass(frozen=True, slots=True)
class Settling:
    """Finds out what of an archive is gone.

    Attributes:
        engine: the database.
        sidecars: reads sidecars; None: they are not read.
    """

    engine: Engine
    sidecars: Sidecars | None

    def settle(
        self, listing: ClaimedListing, open_archive: Callable[[], ObjectStore], should_stop: Callable[[], bool]
    ) -> bool:
        """Mark the known keys that a listing did not find and that are gone. Return False if it had to stop.

        Args:
            listing: the last range of a job, of which everything is recorded.
            open_archive: opens its archive.
            should_stop: asked between the parts. It can be repeated from the beginning.

        Raises:
            ListingLostError: another planner has the range now.
            TransientError: the store is unavailable.
        """
        with unit_of_work(self.engine) as session:
            listings.require(session, listing)
            if archives.found_out_in(session, listing.archive_id, listing.job_id):
                unfound.name_recorded(session, listing.job_id)
        store = open_archive()
        after: str | None = ""
        while after is not None:
            if should_stop():
                return False
            renew(self.engine, listing)
            with unit_of_work(self.engine) as session:
                found = unfound.doubtful(session, listing.archive_id, listing.prefix, listing.job_id, after)
            for keys in batched(found.gone, _AT_ONCE):
                missing = _missing(store, keys)
                self._mark(listing, gone=[key for key in keys if key in missing])
            for keys in batched(found.there, _AT_ONCE):
                missing = _missing(store, keys)
                self._mark(listing, there=[key for key in keys if key not in missing])
            after = found.last
        if self.sidecars is not None:
            self._forget_sidecars(self.sidecars, listing, store)
        return True

    def _mark(self, listing: ClaimedListing, *, gone: Sequence[str] = (), there: Sequence[str] = ()) -> None:
        with unit_of_work(self.engine) as session:
            listings.require(session, listing)
            listings.renew(session, listing, lease_seconds=LEASE_SECONDS)
            archives.share(session, listing.archive_id, listing.job_id)
            vectors.touch(session, unfound.mark(session, listing.archive_id, gone=gone, there=there))
        log.info("settled", missing=len(gone), there_again=len(there))

    def _forget_sidecars(self, known: Sidecars, listing: ClaimedListing, store: ObjectStore) -> None:
        after = ""
        while True:
            renew(self.engine, listing)
            with unit_of_work(self.engine) as session:
                keys = sidecars.unnamed(session, listing.archive_id, listing.prefix, listing.job_id, after, _AT_ONCE)
            if not keys:
                return
            known.forget(listing, sorted(_missing(store, keys)), lambda: store)
            after = keys[-1]


def _missing(store: ObjectStore, keys: Sequence[str]) -> set[str]:
    """Return which of these keys a store does not have."""
    with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
        seen = pool.map(store.stat, keys)
        return {key for key, info in zip(keys, seen, strict=True) if info.version == MISSING_VERSION}

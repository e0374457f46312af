"""Cut the range of keys that a planner lists, so that an idle worker can list the rest of it.

A planner keeps one range of the job free while it lists: whoever takes that one cuts it again. So the work is divided
among all workers however the keys are distributed, and nobody has to know how many workers there are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from storage.database import unit_of_work
from storage.errors import RamqError
from storage.ledger import listings, ranges

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from storage.ledger.listings import ClaimedListing
    from storage.objects.base import RangedStore

log = structlog.get_logger()

CUT_AFTER = 2
"""A range is cut when so many pages of it have been listed: most archives end before."""

WAIT_SECONDS = 10.0
"""A range that could not be cut is left alone for this time."""


@dataclass(slots=True)
class Cutter:
    """Cuts the ranges of one planner."""

    engine: Engine
    _not_before: dict[int, float] = field(default_factory=dict)

    def cut(self, listing: ClaimedListing, store: RangedStore, after: str) -> ClaimedListing | None:
        """Cut what is left of a range, if no other one of the job is free. Return what its planner keeps.

        None: it was not cut.

        Args:
            listing: the range.
            store: its archive.
            after: the last key of it that was recorded.

        Raises:
            ListingLostError: another planner has this range now.
        """
        if time.monotonic() < self._not_before.get(listing.range_id, 0.0):
            return None
        with unit_of_work(self.engine) as session:
            if ranges.is_one_free(session, listing.job_id):
                return None
        try:
            at = store.cut(listing.prefix, after, listing.until)
        except RamqError as error:  # the listing meets the same error, or goes on without a cut
            log.info("not cut", error=str(error))
            at = None
        if at is None:
            self._not_before = {listing.range_id: time.monotonic() + WAIT_SECONDS}
            return None
        with unit_of_work(self.engine) as session:
            listings.require(session, listing)
            ranges.cut(session, listing.range_id, at)
        log.info("range cut", at=at)
        return replace(listing, cursor=after, until=at)

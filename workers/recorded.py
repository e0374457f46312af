"""Plan a job that computes new tags. It lists what a generation has recorded, not the archive.

As with an archive, a page is one transaction. The cursor after it is an image id.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from storage.database import unit_of_work
from storage.ledger import jobs, listings, shards
from storage.results import features
from workers.messages import MODELS_WITH_TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from storage.ledger.jobs import ClaimedListing

log = structlog.get_logger()

PAGE = 4096
STEP_SECONDS = 3.0
LEASE_SECONDS = 60.0
"""The same as for a page of an archive."""


def list_recorded(
    engine: Engine, listing: ClaimedListing, generation_id: int, shard_size: int, should_stop: Callable[[], bool]
) -> None:
    """Continue the listing of a job for a few seconds. Raises ``ListingLostError``."""
    assert listing.from_generation_id is not None
    until = time.monotonic() + STEP_SECONDS
    after, is_complete = int(listing.cursor or 0), False
    while not is_complete and not should_stop() and time.monotonic() < until:
        with unit_of_work(engine) as session:
            jobs.require_listing(session, listing.job_id, listing.epoch)
            page = features.recorded_page(
                session,
                archive_id=listing.archive_id,
                prefix=listing.prefix,
                from_generation_id=listing.from_generation_id,
                generation_id=generation_id,
                needs_tokens=listing.model in MODELS_WITH_TOKENS,
                after=after,
                limit=PAGE,
            )
            is_complete = len(page.ids) < PAGE
            after = page.ids[-1] if page.ids else after
            to_do = set(page.pending)
            cuts = range(0, len(page.pending), shard_size)
            shards.add(session, listing.job_id, [page.pending[i : i + shard_size] for i in cuts])
            listings.add_skipped(session, listing.job_id, [i for i in page.ids if i not in to_do])
            jobs.advance_listing(
                session,
                listing.job_id,
                listing.epoch,
                cursor=str(after),
                listed=len(page.ids),
                skipped=len(page.ids) - len(page.pending),
                lease_seconds=LEASE_SECONDS,
            )
        log.info("listed", job=listing.job_id, recorded=len(page.ids), to_do=len(page.pending))
    with unit_of_work(engine) as session:
        jobs.require_listing(session, listing.job_id, listing.epoch)
        jobs.end_listing(session, listing.job_id, listing.epoch, is_complete=is_complete)
        jobs.finish_completed(session)

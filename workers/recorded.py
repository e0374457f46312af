"""Plan jobs that list what is known, not an archive: new tags, further stages, and recognition of named images.

As with an archive, a page is one transaction. The cursor after it is an image id.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from storage.database import unit_of_work
from storage.ledger import followers, listings, quotas, shards
from storage.results import features, images, stages, teachings
from workers.ending import finish_jobs
from workers.messages import MODELS_WITH_TOKENS, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.ledger.followers import Follower
    from storage.ledger.listings import ClaimedListing
    from storage.results.features import RecordedPage

log = structlog.get_logger()

PAGE = 4096
STEP_SECONDS = 3.0
LEASE_SECONDS = 60.0
"""A page takes well under this time, that of an archive too, with all retries of the store."""


def renew(engine: Engine, listing: ClaimedListing) -> None:
    """Extend the lease of a range while no page of it can be recorded. Raises ``ListingLostError``."""
    with unit_of_work(engine) as session:
        listings.require(session, listing)
        listings.renew(session, listing, lease_seconds=LEASE_SECONDS)


def list_recorded(
    engine: Engine, listing: ClaimedListing, generation_id: int, shard_size: int, should_stop: Callable[[], bool]
) -> None:
    """Continue the listing of a job that computes new tags, for a few seconds. Raises ``ListingLostError``."""
    source = listing.from_generation_id
    assert source is not None

    def page(session: Session, after: int) -> RecordedPage:
        return features.recorded_page(
            session,
            archive_id=listing.archive_id,
            prefix=listing.prefix,
            from_generation_id=source,
            generation_id=generation_id,
            needs_features=kind_of(listing.model) in MODELS_WITH_TOKENS
            or teachings.is_taught(session, listing.vocabulary_id),
            after=after,
            limit=PAGE,
        )

    _list(engine, listing, page, shard_size, should_stop)


def list_named(
    engine: Engine, listing: ClaimedListing, generation_id: int, shard_size: int, should_stop: Callable[[], bool]
) -> None:
    """Continue the listing of a job that recognises images which it names. Raises ``ListingLostError``."""

    def page(session: Session, after: int) -> RecordedPage:
        return images.named_page(
            session,
            job_id=listing.job_id,
            generation_id=generation_id,
            captioner=listing.captioner,
            features=listing.features,
            after=after,
            limit=PAGE,
        )

    _list(engine, listing, page, shard_size, should_stop)


def list_for_stage(
    engine: Engine, listing: ClaimedListing, generation_id: int, shard_size: int, should_stop: Callable[[], bool]
) -> None:
    """Continue the listing of a job of a further stage, for a few seconds. Raises ``ListingLostError``."""

    def page(session: Session, after: int) -> RecordedPage:
        return stages.page(
            session,
            stage=listing.stage,
            generation_id=generation_id,
            archive_id=listing.archive_id,
            prefix=listing.prefix,
            job_id=listing.job_id,
            is_named=listing.query is not None,
            after=after,
            limit=PAGE,
        )

    _list(engine, listing, page, shard_size, should_stop)


def _list(
    engine: Engine,
    listing: ClaimedListing,
    page_after: Callable[[Session, int], RecordedPage],
    shard_size: int,
    should_stop: Callable[[], bool],
) -> None:
    until = time.monotonic() + STEP_SECONDS
    after, is_complete = int(listing.cursor or 0), False
    while not is_complete and not should_stop() and time.monotonic() < until:
        with unit_of_work(engine) as session:
            listings.require(session, listing)
            page = page_after(session, after)
            is_complete = len(page.ids) < PAGE
            after = page.ids[-1] if page.ids else after
            listings.lock_running(session, listing)
            add_page(session, listing, str(after), page.ids, page.pending, shard_size)
        log.info("listed", job=listing.job_id, recorded=len(page.ids), to_do=len(page.pending))
    with unit_of_work(engine) as session:
        listings.require(session, listing)
        if not is_complete:
            listings.release(session, listing)
            return
        if listing.query is not None:
            listings.forget_named(session, listing.job_id)
        listings.lock_running(session, listing)
        listings.end(session, listing)
    finish_jobs(engine)


def add_page(  # noqa: PLR0913, PLR0917  (what a page consists of)
    session: Session,
    listing: ClaimedListing,
    cursor: str,
    listed: Sequence[int],
    pending: list[int],
    shard_size: int,
    keys: int | None = None,
) -> None:
    """Add a page to the job of a listing: shards of what is to be done, the other images as skipped, and its cursor.

    Args:
        session: the transaction of the page, which holds the range (``listings.require``) and the job.
        listing: whose page it is.
        cursor: after the page.
        listed: ids of the images.
        pending: those of them that are to be done.
        shard_size: images in a shard.
        keys: how many keys were listed; None: one for each image.

    Raises:
        NoRoomError: a quota of images is used up.
    """
    quotas.require_room(session, listing.job_id)
    count = len(listed) if keys is None else keys
    add_images(session, listing.job_id, listed, pending, shard_size)
    listings.advance(
        session,
        listing,
        cursor=cursor,
        listed=count,
        skipped=count - len(pending),
        lease_seconds=LEASE_SECONDS,
    )


def add_images(session: Session, job_id: int, listed: Sequence[int], pending: list[int], shard_size: int) -> None:
    """Add images to a job: shards of those to be done, the others as skipped. The caller updates its counters."""
    to_do = set(pending)
    shards.add(session, job_id, cut(pending, shard_size))
    listings.add_skipped(session, job_id, [i for i in listed if i not in to_do])


def follow(session: Session, job_id: int, shard_size: int) -> bool:
    """Give the followers of a job some of what it has listed since. Return whether there may be more.

    The transaction of a page does this too, so that the shards of all stages are there at the same time.
    """
    is_behind = False
    for follower in followers.lock(session, job_id):
        seen = followers.see(session, follower)
        _take(session, follower, seen, shard_size)
        is_behind |= bool(seen.parts) and not seen.is_end
    return is_behind


def _take(session: Session, follower: Follower, seen: followers.Seen, shard_size: int) -> None:
    ids = [image_id for _, part in seen.parts for image_id in part]
    to_do = set(stages.pending(session, follower.stage, follower.generation_id, ids, follower.job_id))
    new: list[tuple[int | None, list[int]]] = []
    loose: list[int] = []  # images that need no recognition, but this stage
    for shard_id, part in seen.parts:
        wanted = [image_id for image_id in part if image_id in to_do]
        if shard_id is None:
            loose += wanted
        elif wanted:
            new.append((shard_id, wanted))
    new += [(None, part) for part in cut(loose, shard_size)]
    shards.add(session, follower.job_id, [part for _, part in new], [shard_id for shard_id, _ in new])
    skipped = [image_id for image_id in ids if image_id not in to_do]
    listings.add_skipped(session, follower.job_id, skipped)
    quotas.count_day(session, follower.with_job_id, len(loose))  # the others were counted with their first stage
    followers.advance(session, follower, seen, listed=len(ids), skipped=len(skipped))


def cut(image_ids: list[int], size: int) -> list[list[int]]:
    """Divide images into shards of a size."""
    return [image_ids[start : start + size] for start in range(0, len(image_ids), size)]

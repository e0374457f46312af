"""Pages of files become images of their own: known ones with the listing, others when their file was opened.

How many pages a file has is known only from its content. So the further pages of a new file are registered by the
worker that opened it, in the transaction that writes the file's own result: either both are there or neither. Of a file
that was counted before and has not changed, the listing registers the pages, without opening it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from storage.database import unit_of_work
from storage.ledger import followers, listings
from storage.ledger.views import PAGES
from storage.objects.pages import further_pages
from storage.results import archives, contents, file_pages, images
from workers.recorded import add_images, follow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.ledger.claims import ClaimedShard
    from storage.ledger.listings import ClaimedListing
    from storage.objects.base import ObjectInfo

log = structlog.get_logger()

AT_ONCE = 4_096
"""Pages that a listing registers in one transaction, unless a single file has more."""


@dataclass(frozen=True, slots=True)
class PageLimits:
    """How pages of files become images.

    Attributes:
        most: images that one file may become; further pages are left out, and the job says so.
        shard_size: images in a shard.
    """

    most: int = 1_000
    shard_size: int = 256


def upsert_page(
    session: Session, listing: ClaimedListing, generation_id: int, files: Sequence[ObjectInfo], limits: PageLimits
) -> tuple[list[int], int]:
    """Record a page of a listing, with the pages that its files are known to have if the job wants them.

    Return the images that still have to be recognised, in key order, and how many pages came to the files.
    """
    wants_pages = bool(listing.options.get(PAGES))

    def pending() -> list[int]:
        return images.pending_of_page(
            session,
            listing.archive_id,
            generation_id,
            listing.captioner,
            listing.features,
            counts_pages=wants_pages,
        )

    ranges_of = None if listing.of_keys else listing.job_id
    images.upsert_page(session, listing.archive_id, files, ranges_of=ranges_of)
    to_do = pending()
    if not wants_pages:
        return to_do, 0
    known = file_pages.settled_counts(session, listing.archive_id, to_do)
    further = [
        page for info in files if info.key in known for page in further_pages(info, known[info.key], limits.most)
    ]
    if not further:
        return to_do, 0
    images.upsert_page(session, listing.archive_id, [*files, *further], ranges_of=ranges_of)
    return pending(), len(further)


def parted(
    engine: Engine, archive_id: int, limits: PageLimits, pages: Iterator[tuple[str, list[ObjectInfo]]]
) -> Iterator[tuple[str, list[ObjectInfo]]]:
    """Divide the pages of a listing so that with the pages of files each is recorded in bounded time.

    ``pages`` are in order of keys, each with the cursor at its end.
    """
    for cursor, page in pages:
        with unit_of_work(engine) as session:
            known = file_pages.counts(session, archive_id, [info.key for info in page])
        part: list[ObjectInfo] = []
        count = 0
        for number, info in enumerate(page):
            part.append(info)
            count += min(known.get(info.key, 1), limits.most) - 1
            if count >= AT_ONCE and number + 1 < len(page):
                yield info.key, part
                part, count = [], 0
        yield cursor, part


@dataclass(frozen=True, slots=True)
class Registered:
    """Where pages are registered: in which archive, and which images of the batch failed in this job before."""

    archive_id: int
    retried: frozenset[int]


@dataclass(frozen=True, slots=True)
class Counted:
    """The version of a file that was opened, and how many pages it has: one, if it is no picture."""

    version: str
    pages: int


def lock(session: Session, counted: Mapping[int, Counted], job_id: int) -> Registered | None:
    """Lock the archive and the job of a batch with these files, before its shard: listings lock in this order.

    Return what ``register`` needs; None: no file has or had further pages, as in nearly every batch.
    """
    if not counted:
        return None
    image_ids = list(counted)
    if all(each.pages == 1 for each in counted.values()) and not file_pages.had_pages(session, image_ids):
        return None
    archive_id = listings.archive_of(session, job_id)
    if archive_id is None:  # the fence says so
        return None
    archives.lock(session, [archive_id])
    listings.lock_job(session, job_id)
    return Registered(archive_id, frozenset(listings.retried(session, job_id, image_ids)))


def register(
    session: Session, shard: ClaimedShard, place: Registered, counted: Mapping[int, Counted], limits: PageLimits
) -> None:
    """Register the further pages of the files of a batch: as images, in shards of the job, and in its counters.

    Pages that are recorded in the same version are skipped, as a listing does. Pages that a file does not have any more
    are marked as missing.

    Args:
        session: the transaction that writes the batch, in which ``lock`` was called.
        shard: of the batch.
        place: as ``lock`` returned it.
        counted: the files, by the id of their image. Images that do not exist any more are left out.
        limits: how many pages there may be.
    """
    archive_id = place.archive_id
    found = file_pages.files(session, {image_id: each.version for image_id, each in counted.items()})
    pages_of = {image_id: counted[image_id].pages for image_id in found}
    last = {info.key: min(pages_of[image_id], limits.most) for image_id, info in found.items()}
    gone = file_pages.mark_gone(session, archive_id, last)
    further = [
        page
        for image_id, info in found.items()
        if pages_of[image_id] > 1
        for page in further_pages(info, pages_of[image_id], limits.most)
    ]
    if gone:
        log.info("pages gone", pages=gone)
    if not further:
        return
    images.upsert_page(session, archive_id, further)
    pending = images.pending_of_page(session, archive_id, shard.generation_id, shard.captioner, shard.features)
    listed = images.ids_of_page(session, archive_id)
    contents.note_recorded(session, listed)
    if not place.retried.isdisjoint(found):
        # Their pages may be in the job already. Those that failed are retried as every failed image is.
        known = listings.known_to(session, shard.job_id, listed)
        listed, pending = [i for i in listed if i not in known], [i for i in pending if i not in known]
    add_images(session, shard.job_id, listed, pending, limits.shard_size)
    listings.count_more(session, shard.job_id, listed=len(listed), skipped=len(listed) - len(pending))
    followers.reopen(session, shard.job_id)
    follow(session, shard.job_id, limits.shard_size)
    log.info("pages", files=sum(count > 1 for count in pages_of.values()), pages=len(listed), to_do=len(pending))

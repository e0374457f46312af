"""What a planner lists: the pages of an archive or of a list of keys, after a cursor."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.ledger.views import PAGES
from storage.objects.base import LOOKS_AT_ONCE, TOO_LONG_VERSION, RangedStore, marked
from storage.objects.ignoring import Ignoring
from storage.objects.manifest import Manifest
from storage.objects.pages import PageStore
from storage.objects.s3_listing import BAD_NAME
from storage.objects.source import open_store, parse_source
from storage.objects.tars import TarStore
from storage.objects.written_keys import as_written
from storage.results import images
from workers.file_pages import parted
from workers.settling import noted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from storage.ledger.listings import ClaimedListing
    from storage.objects.base import ObjectInfo, S3Options
    from workers.file_pages import PageLimits


@dataclass(slots=True)
class Reading:
    """The pages of a source, each with the cursor at its end, and the store if it lists ranges of keys.

    ``recorded`` is how many pages of the range were recorded; what others recorded before counts as one.
    """

    pages: Iterator[tuple[str, list[ObjectInfo]]]
    store: RangedStore | None = None
    recorded: int = 0


@dataclass(frozen=True, slots=True)
class Sources:
    """Opens the sources of listings.

    Attributes:
        engine: the database.
        s3: how to reach buckets.
        limits: images that a file may become.
    """

    engine: Engine
    s3: S3Options
    limits: PageLimits

    def open(self, listing: ClaimedListing) -> Reading:
        """Open the source of a range after its cursor. Empty pages: see ``TarStore``."""
        archive = parse_source(listing.archive_uri)
        ignoring = Ignoring(listing.selection, archive.kind, listing.prefix, archive.prefix)
        store = open_store(archive, self.s3)
        if listing.manifest_version is not None:
            manifest = Manifest(listing.source, self.s3)
            pages = manifest.pages(archive, listing.prefix, listing.cursor)
            known = partial(self._existing, listing.archive_id)
            return Reading((cursor, marked(as_written(store, page, known), ignoring)) for cursor, page in pages)
        ranged = store if isinstance(store, RangedStore) else None
        if isinstance(store, TarStore):
            found = self._in_tars(listing, store, ignoring)
        elif ranged is None:
            found = store.pages(listing.prefix, listing.cursor, ignoring)
        else:
            found = ranged.pages(listing.prefix, listing.cursor, ignoring, listing.until)
        ended: Iterator[tuple[str, list[ObjectInfo]]] = ((_end_of(page[-1]) if page else "", page) for page in found)
        if listing.options.get(PAGES):
            ended = parted(self.engine, listing.archive_id, self.limits, ended)
        return Reading(ended, ranged, recorded=int(listing.cursor is not None))

    def _in_tars(self, listing: ClaimedListing, store: TarStore, ignoring: Ignoring) -> Iterator[list[ObjectInfo]]:
        """Yield pages of members. At the beginning all tar files are listed, to see in which order a bucket lists them.

        Members are listed in the order of bytes, and so a listing goes on after any of them. Tar files that come in
        another order are sorted first.
        """
        if listing.cursor is None and not listing.is_disordered and parse_source(listing.archive_uri).scheme == "s3":
            is_ordered = True
            for is_ordered in store.orders(listing.prefix):  # noqa: B007  (the last one counts)
                yield []
            listing = listing if is_ordered else noted(self.engine, listing)
        yield from store.pages(listing.prefix, listing.cursor, ignoring, is_ordered=not listing.is_disordered)

    def _existing(self, archive_id: int, keys: list[str]) -> set[str]:
        with unit_of_work(self.engine) as session:
            return images.existing(session, archive_id, keys)

    def look_again(self, listing: ClaimedListing, generation_id: int, page: list[ObjectInfo]) -> list[ObjectInfo]:
        """Look up the versions that decide whether an image is skipped. The other versions are found when fetching."""
        unknown = [info.key for info in page if not info.version]
        if not unknown:
            return page
        with unit_of_work(self.engine) as session:
            settled = images.settled(session, listing.archive_id, generation_id, unknown)
        if not settled:
            return page
        store = PageStore(open_store(parse_source(listing.archive_uri), self.s3))  # a list may name pages of files
        with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
            seen = dict(zip(settled, pool.map(store.stat, settled, settled.values()), strict=True))
        return [seen.get(info.key, info) for info in page]


def _end_of(last: ObjectInfo) -> str:
    """Return the cursor after a page: after all keys that its last one stands for, as a folder or as a beginning."""
    if last.version == BAD_NAME:  # a NUL in the true name is less than any other character
        return last.key.partition(r"\x00")[0] + "\x01"
    stands_for_more = last.stands_for_all or last.version == TOO_LONG_VERSION
    return f"{last.key}\U0010ffff" if stands_for_more else last.key

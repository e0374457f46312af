"""Groups of images with the same bytes, and of near copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.errors import ConflictError, UsageError
from storage.index.near_search import search_once
from storage.page import Page
from storage.results import archives, copies, generations, near_copies, near_views
from storage.results.nearness import MOST_DISTANCE
from storage.search.cursors import decode_cursor, encode_cursor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session

    from storage.results.copies import CopyGroup, CopyRow
    from storage.results.near_copies import NearState
    from storage.results.near_views import NearGroup, NearRow
    from storage.results.nearness import Thresholds
    from storage.standby import Databases

_BOUND = "duplicates"
_BOUND_NEAR = "near copies"


class DuplicateClient:
    """Duplicates and near copies. Thread-safe.

    Args:
        databases: the database, and the standby that searches read.
        thresholds: what near copies are, for a search for them.
    """

    def __init__(self, databases: Databases, thresholds: Thresholds) -> None:
        self._databases, self._writable = databases, databases.engine
        self._thresholds = thresholds

    def page(self, archive: str | None = None, *, limit: int = 50, cursor: str | None = None) -> Page[CopyGroup]:
        """Return groups of images with the same bytes, those with the most images first.

        Args:
            archive: count only the images of this archive; None: of all.
            limit: groups at most.
            cursor: ``next_cursor`` of the page before.

        Raises:
            NotFoundError: there is no such archive.
            UsageError: the archive has a prefix, or the cursor is of another list.
        """
        after = None
        if cursor:
            count, first = decode_cursor(cursor, 2, _BOUND)
            after = count, first
        found = self._databases.look(
            lambda session: copies.groups(session, archive_id=_id_of(session, archive), after=after, limit=limit + 1)
        )
        if len(found) <= limit:
            return Page(found)
        last = found[limit - 1]
        return Page(found[:limit], encode_cursor((last.count, last.images[0].image_id), _BOUND))

    def rows(self, archive: str | None = None) -> Iterator[CopyRow]:
        """Yield every image that has a copy, group by group, as they are at one moment. Raises as ``page``."""
        archive_id = self._databases.look(lambda session: _id_of(session, archive))
        with unit_of_work(self._databases.chosen) as session:
            yield from copies.rows(session, archive_id)

    def near_page(
        self,
        archive: str | None = None,
        *,
        distance: int | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[NearGroup]:
        """Return groups of near copies that the last search for them found, those with the most images first.

        Args:
            archive: count only the images of this archive; None: of all.
            distance: count only images whose hash differs in so many bits at most; None: as far as was searched.
            limit: groups at most.
            cursor: ``next_cursor`` of the page before.

        Raises:
            NotFoundError: there is no such archive.
            UsageError: the archive has a prefix, the distance is beyond ``MOST_DISTANCE``, or the cursor is of another
                list.
        """
        most = _distance(distance)
        after = None
        if cursor:
            count, first = decode_cursor(cursor, 2, _BOUND_NEAR)
            after = count, first

        def find(session: Session) -> list[NearGroup]:
            archive_id, generation = _id_of(session, archive), generations.default(session)
            if generation is None:
                return []
            return near_views.groups(
                session,
                generation_id=generation.id,
                archive_id=archive_id,
                distance=most,
                after=after,
                limit=limit + 1,
            )

        found = self._databases.look(find)
        if len(found) <= limit:
            return Page(found)
        last = found[limit - 1]
        return Page(found[:limit], encode_cursor((last.count, last.group_id), _BOUND_NEAR))

    def near_rows(
        self, archive: str | None = None, *, distance: int | None = None, images: Sequence[int] | None = None
    ) -> Iterator[NearRow]:
        """Yield every image of every group of near copies, as they are at one moment. Raises as ``near_page``.

        ``images``: only these; what is said of them is as in the whole list.
        """
        most = _distance(distance)
        archive_id, generation = self._databases.look(
            lambda session: (_id_of(session, archive), generations.default(session))
        )
        if generation is None:
            return
        generation_id = generation.id
        with unit_of_work(self._databases.chosen) as session:
            yield from near_views.rows(
                session, generation_id=generation_id, archive_id=archive_id, distance=most, image_ids=images
            )

    def near_state(self) -> NearState:
        """Return when near copies were searched last, and which images are not in the result."""
        return self._databases.look(near_copies.state)

    def request_near(self) -> NearState:
        """Ask the workers to search for near copies. One of them begins within seconds."""
        with unit_of_work(self._writable) as session:
            near_copies.request(session)
            return near_copies.state(session)

    def find_near(self) -> NearState:
        """Search for near copies now, in this process. It takes seconds for 100,000 images.

        Raises:
            ConflictError: nothing was recorded yet, or another process is searching.
        """
        with unit_of_work(self._writable) as session:
            if generations.default(session) is None:
                raise ConflictError("no image was recorded yet: start a job first, with `ramq enqueue`")
        found = search_once(self._writable, self._thresholds)
        if found is None:
            raise ConflictError("another process is searching for near copies: wait until it has ended")
        return found


def _distance(distance: int | None) -> int:
    if distance is None:
        return MOST_DISTANCE
    if not 0 <= distance <= MOST_DISTANCE:
        raise UsageError(f"the distance is {distance}; give one from 0 to {MOST_DISTANCE}")
    return distance


def _id_of(session: Session, archive: str | None) -> int | None:
    return None if archive is None else archives.whole(session, archive)

"""Groups of images with the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.page import Page
from storage.results import archives, copies
from storage.search.cursors import decode_cursor, encode_cursor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.results.copies import CopyGroup, CopyRow

_BOUND = "duplicates"


class DuplicateClient:
    """Duplicates. Thread-safe.

    Args:
        engine: the database, or a standby of it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

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
        with unit_of_work(self._engine) as session:
            found = copies.groups(session, archive_id=_id_of(session, archive), after=after, limit=limit + 1)
        if len(found) <= limit:
            return Page(found)
        last = found[limit - 1]
        return Page(found[:limit], encode_cursor((last.count, last.images[0].image_id), _BOUND))

    def rows(self, archive: str | None = None) -> Iterator[CopyRow]:
        """Yield every image that has a copy, group by group, as they are at one moment. Raises as ``page``."""
        with unit_of_work(self._engine) as session:
            archive_id = _id_of(session, archive)
        with unit_of_work(self._engine) as session:
            yield from copies.rows(session, archive_id)


def _id_of(session: Session, archive: str | None) -> int | None:
    return None if archive is None else archives.whole(session, archive)

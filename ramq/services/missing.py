"""Images of which people said something and whose files are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.page import Page
from storage.results import archives, lookup, missing
from storage.search.cursors import decode_cursor, encode_cursor

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from storage.results.missing import MissingView

_BOUND = "missing"


class MissingClient:
    """Missing images. Thread-safe.

    Args:
        engine: the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(self, archive: str | None = None, *, limit: int = 50, cursor: str | None = None) -> Page[MissingView]:
        """Return images of which people said something and whose files are missing, by number.

        Args:
            archive: only those of this archive, by id or URI; None: of all.
            limit: images at most.
            cursor: ``next_cursor`` of the page before.

        Raises:
            NotFoundError: there is no such archive.
            UsageError: the archive has a prefix, or the cursor is of another list.
        """
        (after,) = decode_cursor(cursor, 1, _BOUND) if cursor else (0,)
        with unit_of_work(self._engine) as session:
            archive_id = None if archive is None else archives.whole(session, archive)
            found = missing.views(session, archive_id, after=after, limit=limit + 1)
        if len(found) <= limit:
            return Page(found)
        return Page(found[:limit], encode_cursor((found[limit - 1].image_id,), _BOUND))

    def continue_at(self, image: str, at: str) -> int:
        """Let an image whose file is missing continue where another one is. Return its number.

        Args:
            image: the missing one, by id, key or URI.
            at: the other one, whose number then leads to the first.

        Raises:
            NotFoundError: one of them does not exist.
            UsageError: the first is not missing, the second is, or they are of two archives.
            ConflictError: a worker is on one of them.
        """
        with unit_of_work(self._engine) as session:
            image_id, other = lookup.resolve(session, image, None), lookup.resolve(session, at, None)
            missing.continue_at(session, image_id, other)
        return image_id

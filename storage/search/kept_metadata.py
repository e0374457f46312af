"""The dates and cameras of all images, kept between searches: to order hits by date, and to count them.

As with the regions of tags, each search asks PostgreSQL what changed since. So it sees what was committed before it.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from storage.results import metadata_search

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.results.metadata_search import Columns
    from storage.results.moments import Moment


class KeptMetadata:
    """Knows when and with what images were taken. One per process; thread-safe."""

    def __init__(self) -> None:
        self._kept: tuple[Moment, Columns] | None = None
        self._lock = Lock()

    def columns(self, session: Session) -> Columns:
        """Return the columns as they are now. They must not be changed.

        Raises:
            UsageError: there are more than ``metadata_search.MOST_ROWS``.
        """
        kept = self._kept
        since = None if kept is None else metadata_search.columns_since(session, kept[0])
        if kept is None or since is None:
            found = metadata_search.columns(session)
        else:
            found = since[0], kept[1].changed(since[1])
        if found[0].is_public:
            with self._lock:
                if self._kept is kept:  # another search may have been faster
                    self._kept = found
        return found[1]

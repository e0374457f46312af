"""The readers of the databases that searches read: of the database, and of a standby if there is one.

Each has a reader of its own, since what it keeps in memory is of one sequence of states. A search is answered by one of
them as a whole. If the standby fails in the middle of it, it begins again with the database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ramq.services.captions import Captions
from storage.remembered import read_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.search.kept_keywords import KeptKeywords
    from storage.search.kept_regions import KeptRegions
    from storage.search.search import Search
    from storage.search.views import Hit
    from storage.standby import Databases

Found = TypeVar("Found")


class SearchReaders:
    """Reads for searches. Thread-safe.

    Args:
        databases: the database, and the standby that searches read.
        search_of: returns the reader of either.
    """

    def __init__(self, databases: Databases, search_of: Callable[[Engine], Search]) -> None:
        self._databases = databases
        self.search_of = search_of
        self.read = databases.read
        self._captions: dict[Search, Captions] = {}

    def look(self, call: Callable[[Session, Search], Found]) -> Found:
        """Return what ``call`` reads in one session. It may be called again, for the other database."""

        def at(engine: Engine) -> Found:
            with read_only(engine) as session:
                return call(session, self.search_of(engine))

        return self.read(at)

    def as_corrected(self, session: Session, search: Search, hits: Iterable[Hit]) -> list[Hit]:
        """Return hits with captions that fit what people said."""
        if search not in self._captions:
            self._captions[search] = Captions(search)
        return self._captions[search].as_corrected(session, hits)

    def warmed(self) -> tuple[Engine, KeptRegions, KeptKeywords]:
        """Return the database that searches read now, and what is kept of its regions and keywords."""
        engine = self._databases.chosen
        search = self.search_of(engine)
        return engine, search.regions, search.keywords

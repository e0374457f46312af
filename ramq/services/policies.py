"""Which tags count in which archive, as people set it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ramq.services.corrections import LOCAL, every_vocabulary
from storage.database import unit_of_work
from storage.errors import NotFoundError
from storage.results import archives, corrections, policies
from storage.results.tags import UnknownTagError

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.results.views import PolicyView
    from storage.search.search import Search


class PolicyClient:
    """Rules. Thread-safe; every method is one transaction. They count from the next search on.

    Args:
        engine: the database.
        search: knows the vocabularies.
    """

    def __init__(self, engine: Engine, search: Search) -> None:
        self._engine = engine
        self._search = search

    def list(self) -> list[PolicyView]:
        """Return every rule, those for all archives first."""
        with unit_of_work(self._engine) as session:
            return policies.views(session)

    def put(self, tag: str, kind: Literal["allow", "deny"], archive: str | None = None, *, by: str = LOCAL) -> None:
        """Deny a tag, or allow it and no other that is not allowed, in one archive or in all.

        Raises:
            UnknownTagError: no vocabulary has it.
            NotFoundError: there is no such archive.
            UsageError: a part of an archive is meant.
        """
        with unit_of_work(self._engine) as session:
            archive_id = _archive_id(session, archive)
            name = corrections.resolve(every_vocabulary(session, self._search), tag)
            policies.put(session, name, kind, archive_id, by)

    def clear(self, tag: str, archive: str | None = None) -> None:
        """Take a rule back. Raises ``NotFoundError`` where there is none."""
        with unit_of_work(self._engine) as session:
            archive_id = _archive_id(session, archive)
            try:
                name = corrections.resolve(every_vocabulary(session, self._search), tag)
            except UnknownTagError:
                # A rule may outlive the vocabulary that its name came from.
                if policies.clear(session, tag, archive_id):
                    return
                raise
            if not policies.clear(session, name, archive_id):
                where = f"in {archive}" if archive else "for all archives"
                raise NotFoundError(f"there is no rule for the tag {tag!r} {where}: see `ramq policy list`")


def _archive_id(session: Session, archive: str | None) -> int | None:
    return None if archive is None else archives.whole(session, archive)

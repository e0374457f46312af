"""Tag rules: hide tags, or allow only some, in one archive or in all."""

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
    """Tag rules. Thread-safe. Every method is one transaction. Rules take effect at the next search.

    Args:
        engine: the database.
        search: loads the vocabularies.
    """

    def __init__(self, engine: Engine, search: Search) -> None:
        self._engine = engine
        self._search = search

    def list(self) -> list[PolicyView]:
        """Return every rule, those for all archives first."""
        with unit_of_work(self._engine) as session:
            return policies.views(session)

    def put(self, tag: str, kind: Literal["allow", "deny"], archive: str | None = None, *, by: str = LOCAL) -> None:
        """Deny or allow a tag, in one archive or in all. Once any tag is allowed, all others are hidden.

        Raises:
            UnknownTagError: no vocabulary has the tag.
            NotFoundError: there is no such archive.
            UsageError: ``archive`` names only a part of an archive.
        """
        with unit_of_work(self._engine) as session:
            archive_id = _archive_id(session, archive)
            name = corrections.resolve(every_vocabulary(session, self._search), tag)
            policies.put(session, name, kind, archive_id, by)

    def clear(self, tag: str, archive: str | None = None) -> None:
        """Remove a rule. Raises ``NotFoundError`` if there is none."""
        with unit_of_work(self._engine) as session:
            archive_id = _archive_id(session, archive)
            try:
                name = corrections.resolve(every_vocabulary(session, self._search), tag)
            except UnknownTagError:
                # The vocabulary with this tag may have been removed after the rule was added.
                if policies.clear(session, tag, archive_id):
                    return
                raise
            if not policies.clear(session, name, archive_id):
                where = f"in {archive}" if archive else "for all archives"
                raise NotFoundError(f"there is no rule for the tag {tag!r} {where}; see `ramq policy list`")


def _archive_id(session: Session, archive: str | None) -> int | None:
    return None if archive is None else archives.whole(session, archive)

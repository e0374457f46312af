"""Tag rules: hide tags, allow only some, or say which are no things, in one archive or in all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ramq.services.author import LOCAL
from ramq.services.corrections import every_vocabulary
from storage.database import unit_of_work
from storage.errors import NotFoundError
from storage.results import archives, corrections, policies
from storage.results.tags import UnknownTagError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.results.policies import Kind
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

    def put(self, tag: str, kind: Kind, archive: str | None = None, *, by: str = LOCAL) -> None:
        """Add a rule for a tag; see ``put_all``."""
        self.put_all([tag], kind, archive, by=by)

    def put_all(self, tags: Sequence[str], kind: Kind, archive: str | None = None, *, by: str = LOCAL) -> None:
        """Add a rule for each of these tags, in one archive or in all: all of them or, if there is an error, none.

        Args:
            tags: names or numbers of tags.
            kind: ``deny`` hides a tag. Once any tag is allowed (``allow``), all others are hidden. ``no_thing``: it is
                not looked for in pictures, unless by name.
            archive: the archive; None: all.
            by: the author.

        Raises:
            UnknownTagError: no vocabulary has the tag.
            NotFoundError: there is no such archive.
            UsageError: ``archive`` names only a part of an archive.
        """
        with unit_of_work(self._engine) as session:
            archive_id = _archive_id(session, archive)
            vocabularies = every_vocabulary(session, self._search)
            for name in [corrections.resolve(vocabularies, tag) for tag in tags]:
                policies.put(session, name, kind, archive_id, by)

    def clear(self, tag: str, archive: str | None = None, kind: Kind | None = None) -> None:
        """Remove the rules for a tag; see ``clear_all``."""
        self.clear_all([tag], archive, kind)

    def clear_all(self, tags: Sequence[str], archive: str | None = None, kind: Kind | None = None) -> None:
        """Remove the rules for each of these tags there, or only those of a kind.

        Raises:
            NotFoundError: one of them has none. Then nothing is removed.
        """
        with unit_of_work(self._engine) as session:
            archive_id = _archive_id(session, archive)
            vocabularies = every_vocabulary(session, self._search)
            for tag in tags:
                try:
                    name = corrections.resolve(vocabularies, tag)
                except UnknownTagError:
                    # The vocabulary with this tag may have been removed after the rule was added.
                    if policies.clear(session, tag, archive_id, kind):
                        continue
                    raise
                if not policies.clear(session, name, archive_id, kind):
                    where = f"in {archive}" if archive else "for all archives"
                    raise NotFoundError(f"there is no rule for the tag {tag!r} {where}; see `ramq policy list`")


def _archive_id(session: Session, archive: str | None) -> int | None:
    return None if archive is None else archives.whole(session, archive)

"""Which tags count in which archive, as people set it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ramq.corrections import LOCAL
from ramq.kit.errors import NotFoundError
from storage.database import unit_of_work
from storage.repositories import archives, corrections, policies

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ramq.corrections import CorrectionClient
    from storage.views import PolicyView


class PolicyClient:
    """Rules. Thread-safe; every method is one transaction. They count from the next search on.

    Args:
        engine: the database.
        people: knows the vocabularies.
    """

    def __init__(self, engine: Engine, people: CorrectionClient) -> None:
        self._engine = engine
        self._people = people

    def list(self) -> list[PolicyView]:
        """Return every rule, those for all archives first."""
        with unit_of_work(self._engine) as session:
            return policies.views(session)

    def put(self, tag: str, kind: Literal["allow", "deny"], archive: str | None = None, *, by: str = LOCAL) -> None:
        """Deny a tag, or allow it and no other that is not allowed, in one archive or in all.

        Raises:
            UnknownTagError: no vocabulary has it.
            NotFoundError: there is no such archive.
        """
        with unit_of_work(self._engine) as session:
            archive_id = archives.resolve(session, archive)[0] if archive else None
            name = corrections.meant(self._people.vocabularies(session), tag)
            policies.put(session, name, kind, archive_id, by)

    def clear(self, tag: str, archive: str | None = None) -> None:
        """Take a rule back. Raises ``NotFoundError`` where there is none."""
        with unit_of_work(self._engine) as session:
            archive_id = archives.resolve(session, archive)[0] if archive else None
            name = corrections.meant(self._people.vocabularies(session), tag)
            if not policies.clear(session, name, archive_id):
                where = f"in {archive}" if archive else "for all archives"
                raise NotFoundError(f"there is no rule for the tag {tag!r} {where}: see `ramq policy list`")

"""Rules about which tags count in which archive.

Names are lowercased here and not by PostgreSQL. Searches compare them with names that Python lowercased, and the two
differ beyond ASCII.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from storage.results.policy import Policy, policy_of
from storage.results.views import PolicyView
from storage.tables import Archive, TagPolicy

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.results.tags import Names


def load(session: Session, names: Names) -> Policy:
    """Return the policy for a vocabulary."""
    rows = session.execute(select(TagPolicy.archive_id, TagPolicy.name, TagPolicy.kind)).all()
    return policy_of([(row.archive_id, row.name, row.kind) for row in rows], names.names)


def put(session: Session, name: str, kind: str, archive_id: int | None, said_by: str) -> None:
    """Allow or deny a tag, in one archive or in all (None). Replaces the earlier rule for it there."""
    statement = insert(TagPolicy).values(archive_id=archive_id, name=name.lower(), kind=kind, said_by=said_by)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[TagPolicy.archive_id, TagPolicy.name],
            set_={"kind": kind, "said_by": said_by, "said_at": func.now()},
        )
    )


def clear(session: Session, name: str, archive_id: int | None) -> bool:
    """Delete the rule for a tag. Return whether there was one."""
    held = delete(TagPolicy).where(
        TagPolicy.name == name.lower(), TagPolicy.archive_id.is_not_distinct_from(archive_id)
    )
    return session.execute(held.returning(TagPolicy.id)).first() is not None


def views(session: Session) -> list[PolicyView]:
    """Return every rule, those for all archives first."""
    rows = session.execute(
        select(TagPolicy, Archive.uri)
        .outerjoin(Archive, Archive.id == TagPolicy.archive_id)
        .order_by(TagPolicy.archive_id.nulls_first(), TagPolicy.name)
    )
    return [PolicyView(row.name, row.kind, uri, row.said_by, row.said_at) for row, uri in rows]

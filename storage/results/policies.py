"""Rules about tags in archives: which count, and which are no things.

Names are lowercased here and not by PostgreSQL. Searches compare them with names that Python lowercased, and the two
differ beyond ASCII.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from storage.remembered import remembered
from storage.results.policy import NamePolicy, NameRules, Policy, name_policy_of, policy_of
from storage.results.views import PolicyView
from storage.tables import Archive, TagPolicy
from storage.texts import fold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from storage.results.tags import Names

Kind = Literal["allow", "deny", "no_thing"]
"""``no_thing``: the tag names no thing that has a place in a picture, such as a scene or an action."""
NO_THING = "no_thing"


def load(session: Session, names: Names) -> Policy:
    """Return the policy for a vocabulary."""
    return policy_of(_counting(session), names.names)


def by_name(session: Session) -> NamePolicy:
    """Return the policy for the tags of regions, of which no vocabulary need know. Its names are folded."""
    return name_policy_of([(archive_id, fold(name), kind) for archive_id, name, kind in _counting(session)])


def of_images(session: Session, image_ids: Sequence[int]) -> dict[int, NameRules]:
    """Return the rules of ``by_name`` for each image; images for which there are none are left out."""
    policy = by_name(session)
    if policy.is_empty:
        return {}
    rows = session.execute(text("SELECT id, archive_id FROM image WHERE id = ANY(:ids)"), {"ids": list(image_ids)})
    return {row.id: policy.of(row.archive_id) for row in rows}


def _counting(session: Session) -> list[tuple[int | None, str, str]]:
    counting = select(TagPolicy.archive_id, TagPolicy.name, TagPolicy.kind).where(TagPolicy.kind != NO_THING)

    def look_up() -> list[tuple[int | None, str, str]]:
        return [(row.archive_id, row.name, row.kind) for row in session.execute(counting)]

    return remembered(session, "rules that count", look_up)


def no_things(session: Session) -> Mapping[int | None, frozenset[str]]:
    """Return the names, in lower case, of the tags that are no things in an archive, and in all archives (None)."""
    found: dict[int | None, set[str]] = {}
    rows = session.execute(select(TagPolicy.archive_id, TagPolicy.name).where(TagPolicy.kind == NO_THING))
    for archive_id, name in rows:
        found.setdefault(archive_id, set()).add(name)
    return {archive_id: frozenset(names) for archive_id, names in found.items()}


def put(session: Session, name: str, kind: Kind, archive_id: int | None, said_by: str) -> None:
    """Add a rule for a tag, in one archive or in all (None).

    ``allow`` and ``deny`` replace each other there. ``no_thing`` stands beside them.
    """
    statement = insert(TagPolicy).values(archive_id=archive_id, name=name.lower(), kind=kind, said_by=said_by)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[TagPolicy.archive_id, TagPolicy.name, text(f"(kind = '{NO_THING}')")],
            set_={"kind": kind, "said_by": said_by, "said_at": func.now()},
        )
    )


def clear(session: Session, name: str, archive_id: int | None, kind: Kind | None = None) -> bool:
    """Delete the rules for a tag, or only the one of a kind. Return whether there was one."""
    held = delete(TagPolicy).where(
        TagPolicy.name == name.lower(), TagPolicy.archive_id.is_not_distinct_from(archive_id)
    )
    if kind is not None:
        held = held.where(TagPolicy.kind == kind)
    return session.execute(held.returning(TagPolicy.id)).first() is not None


def views(session: Session) -> list[PolicyView]:
    """Return every rule, those for all archives first."""
    rows = session.execute(
        select(TagPolicy, Archive.uri)
        .outerjoin(Archive, Archive.id == TagPolicy.archive_id)
        .order_by(TagPolicy.archive_id.nulls_first(), TagPolicy.name, TagPolicy.kind)
    )
    return [PolicyView(row.name, row.kind, uri, row.said_by, row.said_at) for row, uri in rows]

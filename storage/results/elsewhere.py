"""Tags that the vocabulary in use does not have, and that of another generation has: taught ones, above all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.results.tags import UnknownTagError
from storage.tables import RECOGNITION

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.results.tags import Names


def told(session: Session, name: str) -> str:
    """Return which generation has a tag of this name but is not in use, in words; empty if none has."""
    found = session.scalar(
        text(
            """SELECT max(generation.id) FROM generation
               WHERE generation.stage = :stage AND generation.dropped_at IS NULL AND NOT generation.is_default
                   AND EXISTS (SELECT FROM tag WHERE tag.vocabulary_id = generation.vocabulary_id
                       AND lower(tag.name) = lower(:name))"""
        ),
        {"stage": RECOGNITION, "name": name.strip().replace("\0", " ")},
    )
    if found is None:
        return ""
    return f"It is a tag of generation {found}, which is not in use: see `ramq generations use {found}`."


def meant(session: Session, names: Names, name: str) -> tuple[int, ...]:
    """Return ``names.meant(name)``. The error for an unknown tag says which other generation has it."""
    try:
        return names.meant(name)
    except UnknownTagError as error:
        if elsewhere := told(session, name):
            raise UnknownTagError(name, (), elsewhere=elsewhere) from error
        raise

"""Tags of a vocabulary: by name in either language, by id, and near misses."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, or_, select

from ramq.kit.errors import UsageError
from storage.models import SCORE_SCALE, Tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session


class UnknownTagError(UsageError):
    """A tag that the vocabulary does not have. The message suggests near names."""

    code = "unknown-tag"


@dataclass(frozen=True, slots=True)
class Names:
    """A vocabulary in memory: names and thresholds by tag id. Vocabularies never change, so it may be kept."""

    vocabulary_id: int
    names: tuple[str, ...]
    names_zh: tuple[str | None, ...]
    thresholds: tuple[float, ...]

    def units(self, tag_id: int, threshold: float | None) -> int:
        """Return the threshold of a tag in stored units: its own, or ``threshold`` (0..1) for all."""
        return round((self.thresholds[tag_id] if threshold is None else threshold) * SCORE_SCALE)


def load(session: Session, vocabulary_id: int) -> Names:
    """Read a vocabulary."""
    rows = session.execute(
        select(Tag.name, Tag.name_zh, Tag.threshold).where(Tag.vocabulary_id == vocabulary_id).order_by(Tag.id)
    ).all()
    return Names(
        vocabulary_id,
        tuple(row.name for row in rows),
        tuple(row.name_zh for row in rows),
        tuple(row.threshold for row in rows),
    )


def resolve(session: Session, vocabulary_id: int, text: str) -> list[int]:
    """Return the ids of the tags that ``text`` names: in English whatever the case, in Chinese, or as an id.

    A name may be shared by several tags; then all of them are meant.

    Raises:
        UnknownTagError: it names none.
    """
    wanted = text.strip()
    by_name = or_(func.lower(Tag.name) == wanted.lower(), Tag.name_zh == wanted)
    ids = session.scalars(select(Tag.id).where(Tag.vocabulary_id == vocabulary_id, by_name).order_by(Tag.id)).all()
    if not ids and wanted.isdecimal() and int(wanted) < 2**15:
        ids = session.scalars(select(Tag.id).where(Tag.vocabulary_id == vocabulary_id, Tag.id == int(wanted))).all()
    if not ids:
        near = suggest(session, vocabulary_id, wanted)
        hint = f"; near names: {', '.join(near)}" if near else ""
        raise UnknownTagError(f"there is no tag {text!r}{hint}")
    return list(ids)


def suggest(session: Session, vocabulary_id: int, text: str, n: int = 5) -> list[str]:
    """Return tag names that look like ``text``, the nearest first."""
    names: Sequence[str] = session.scalars(select(Tag.name).where(Tag.vocabulary_id == vocabulary_id)).all()
    by_lower = {name.lower(): name for name in names}
    wanted = text.lower()
    near = difflib.get_close_matches(wanted, by_lower, n=n, cutoff=0.6)
    holding = sorted((name for name in by_lower if wanted and wanted in name), key=len)
    return [by_lower[name] for name in dict.fromkeys([*near, *holding])][:n]


def completions(session: Session, vocabulary_id: int, prefix: str, limit: int) -> list[int]:
    """Return ids of tags whose English or Chinese name, or a word of it, begins with ``prefix``; short names first."""
    lowered = prefix.strip().lower()
    name = func.lower(Tag.name)
    rows = session.scalars(
        select(Tag.id)
        .where(
            Tag.vocabulary_id == vocabulary_id,
            or_(
                name.startswith(lowered, autoescape=True),
                name.contains(f" {lowered}", autoescape=True),
                Tag.name_zh.startswith(lowered, autoescape=True),
            ),
        )
        .order_by(~name.startswith(lowered, autoescape=True), func.length(Tag.name), Tag.name, Tag.id)
        .limit(limit)
    )
    return list(rows)

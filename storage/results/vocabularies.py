"""Vocabularies, both of models and added by people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, text, update

from storage.database import wait_for_lock
from storage.errors import ConflictError, NotFoundError, UsageError
from storage.remembered import remembered
from storage.results.generation_views import VocabularyTag, VocabularyView
from storage.tables import Generation, Tag, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session


MOST_TAGS = 2**15
"""A tag's id is stored in two bytes, with every image that has it."""

_LOCK = 7_263_775
"""Advisory lock: if two people add the same name at once, the second gets an error."""


@dataclass(frozen=True, slots=True)
class VocabularySpec:
    """The tags of a model, as described by the model. The id of a tag is its position.

    ``synonyms`` are further names of each tag, which change no result and are no part of the hash; None: unknown.
    """

    sha256: str
    name: str
    names: Sequence[str]
    names_zh: Sequence[str | None]
    thresholds: Sequence[float]
    descriptions: Sequence[Sequence[str]] | None = None
    synonyms: Sequence[Sequence[str]] | None = None


def ensure(session: Session, spec: VocabularySpec) -> int:
    """Return the id of a vocabulary, storing it if it is new. Synonyms are stored if it has none yet.

    Raises:
        UsageError: it has too many tags.
    """
    known = session.scalar(select(Vocabulary.id).where(Vocabulary.sha256 == spec.sha256))
    if known is not None:
        if spec.synonyms is not None and edition(session, known) == 0:
            _set_synonyms(session, known, spec.synonyms)
        return known
    if len(spec.names) > MOST_TAGS:
        raise UsageError(f"vocabulary {spec.name!r} has {len(spec.names):,} tags, more than the limit of {MOST_TAGS:,}")
    row = Vocabulary(
        sha256=spec.sha256, name=spec.name, size=len(spec.names), edition=0 if spec.synonyms is None else 1
    )
    session.add(row)
    session.flush()
    described = spec.descriptions or (None,) * len(spec.names)
    others = spec.synonyms or ((),) * len(spec.names)
    session.execute(
        insert(Tag).returning(Tag.id),  # with RETURNING, SQLAlchemy inserts a thousand rows at a time
        [
            {
                "vocabulary_id": row.id,
                "id": number,
                "name": name,
                "name_zh": name_zh,
                "threshold": threshold,
                "descriptions": None if sentences is None else list(sentences),
                "synonyms": list(synonyms) or None,
            }
            for number, (name, name_zh, threshold, sentences, synonyms) in enumerate(
                zip(spec.names, spec.names_zh, spec.thresholds, described, others, strict=True)
            )
        ],
    )
    return row.id


def add(session: Session, spec: VocabularySpec) -> VocabularyView:
    """Store a vocabulary under its own name. Adding the same one again changes nothing but its synonyms, if it has any.

    Raises:
        ConflictError: another vocabulary has this name, or these tags have another name.
        UsageError: it has too many tags.
    """
    wait_for_lock(session, _LOCK)
    named = session.scalars(select(Vocabulary.sha256).where(Vocabulary.name == spec.name)).all()
    if named and spec.sha256 not in named:
        raise ConflictError(f"another vocabulary is already named {spec.name!r}: choose another name (--name)")
    same = session.scalar(select(Vocabulary.name).where(Vocabulary.sha256 == spec.sha256))
    if same is not None and same != spec.name:
        raise ConflictError(f"the vocabulary {same!r} has exactly these tags: use that one")
    vocabulary_id = ensure(session, spec)
    if spec.synonyms is not None:
        _set_synonyms(session, vocabulary_id, spec.synonyms)
    return view(session, vocabulary_id)


def edition(session: Session, vocabulary_id: int) -> int:
    """Return a number that changes with the synonyms of a vocabulary."""
    asked = select(Vocabulary.edition).where(Vocabulary.id == vocabulary_id)
    return remembered(session, ("edition", vocabulary_id), lambda: session.scalar(asked) or 0)


def _set_synonyms(session: Session, vocabulary_id: int, synonyms: Sequence[Sequence[str]]) -> None:
    """Replace the synonyms of a vocabulary."""
    known = select(Vocabulary.edition).where(Vocabulary.id == vocabulary_id)
    held = session.scalars(known.with_for_update()).one()
    changed = session.execute(
        text(
            """
            UPDATE tag SET synonyms = given.synonyms FROM (
                SELECT (entry ->> 0)::smallint AS id, ARRAY(SELECT jsonb_array_elements_text(entry -> 1)) AS synonyms
                FROM jsonb_array_elements(CAST(:given AS jsonb)) AS entry
            ) AS given
            WHERE tag.vocabulary_id = :vocabulary_id AND tag.id = given.id
                AND coalesce(tag.synonyms, '{}') <> given.synonyms
            RETURNING tag.id
            """
        ),
        {"vocabulary_id": vocabulary_id, "given": json.dumps([[i, list(each)] for i, each in enumerate(synonyms)])},
    ).all()
    if changed or held == 0:
        session.execute(update(Vocabulary).where(Vocabulary.id == vocabulary_id).values(edition=held + 1))


def find(session: Session, name: str) -> VocabularyView:
    """Return the vocabulary with this name or id. If several have the name, return the newest.

    Raises:
        NotFoundError: there is none; the message lists the existing ones.
    """
    every = views(session)
    for known in reversed(every):
        if known.name == name or str(known.id) == name:
            return known
    names = ", ".join(known.name for known in every)
    raise NotFoundError(f"there is no vocabulary {name!r}; vocabularies: {names or 'none'}; `ramq vocab add` adds one")


def view(session: Session, vocabulary_id: int) -> VocabularyView:
    """Return the vocabulary with this id, whatever the names of others are. Raises ``NotFoundError``."""
    for known in views(session):
        if known.id == vocabulary_id:
            return known
    raise NotFoundError(f"there is no vocabulary {vocabulary_id}")


def views(session: Session) -> list[VocabularyView]:
    """Return every vocabulary, oldest first."""
    used: dict[int, list[int]] = {}
    rows = session.execute(
        select(Generation.vocabulary_id, Generation.id).where(Generation.dropped_at.is_(None)).order_by(Generation.id)
    )
    for vocabulary_id, generation_id in rows:
        used.setdefault(vocabulary_id, []).append(generation_id)
    found = session.scalars(select(Vocabulary).order_by(Vocabulary.id))
    return [VocabularyView(each.id, each.name, each.size, each.sha256, used.get(each.id, [])) for each in found]


def tags(session: Session, vocabulary_id: int) -> list[VocabularyTag]:
    """Return the tags of a vocabulary in the order of their ids."""
    rows = session.scalars(select(Tag).where(Tag.vocabulary_id == vocabulary_id).order_by(Tag.id))
    return [
        VocabularyTag(tag.id, tag.name, tag.name_zh, tag.threshold, tag.descriptions, tag.synonyms or [])
        for tag in rows
    ]

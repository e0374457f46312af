"""Generations and their vocabularies: what made the results, and which generation serves search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from storage.database import wait_for_lock
from storage.errors import NoGenerationError
from storage.remembered import moment_of, remembered
from storage.results import partitions, vocabularies
from storage.results.generation_views import GenerationView
from storage.tables import RECOGNITION, Generation, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from storage.results.vocabularies import VocabularySpec

DEFAULT_LOCK = 7_263_772
"""Advisory lock: two workers that register the first generation must not both make theirs the default."""


@dataclass(frozen=True, slots=True)
class GenerationSpec:
    """What makes a result, as described by the model."""

    fingerprint: str
    model: str
    weights_sha256: str
    preprocessing: str
    vector_kind: str
    vector_size: int


def ensure(session: Session, spec: GenerationSpec, vocabulary: VocabularySpec) -> int:
    """Return the id of the generation. Register it and its vocabulary if they are new.

    The first generation of a database serves search until another one is chosen. One that was dropped starts empty. The
    generation cannot be dropped before the transaction ends.
    """
    known = session.scalars(
        select(Generation).where(Generation.fingerprint == spec.fingerprint).with_for_update(key_share=True)
    ).one_or_none()
    if known is not None:
        known.dropped_at = None
        partitions.ensure(session, known.id)
        return known.id
    wait_for_lock(session, DEFAULT_LOCK)
    vocabulary_id = vocabularies.ensure(session, vocabulary)
    is_first = default(session) is None
    session.execute(
        insert(Generation)
        .values(
            fingerprint=spec.fingerprint,
            model=spec.model,
            weights_sha256=spec.weights_sha256,
            preprocessing=spec.preprocessing,
            vector_kind=spec.vector_kind,
            vector_size=spec.vector_size,
            vocabulary_id=vocabulary_id,
            is_default=is_first,
        )
        .on_conflict_do_nothing(index_elements=[Generation.fingerprint])
    )
    generation_id = session.scalars(select(Generation.id).where(Generation.fingerprint == spec.fingerprint)).one()
    partitions.ensure(session, generation_id)
    return generation_id


@dataclass(frozen=True, slots=True)
class StageSpec:
    """What makes a result of a stage other than recognition. ``vector_size`` 0: its results are no vectors."""

    stage: str
    fingerprint: str
    model: str
    weights_sha256: str
    preprocessing: str
    vector_kind: str = "none"
    vector_size: int = 0


def ensure_of_stage(session: Session, spec: StageSpec) -> int:
    """Return the id of a stage's generation. Register it if it is new. The first one of a stage serves search.

    The generation cannot be dropped before the transaction ends.
    """
    known = select(Generation).where(Generation.fingerprint == spec.fingerprint).with_for_update(key_share=True)
    generation = session.scalars(known).one_or_none()
    if generation is None:
        wait_for_lock(session, DEFAULT_LOCK)
        statement = insert(Generation).values(
            fingerprint=spec.fingerprint,
            stage=spec.stage,
            model=spec.model,
            weights_sha256=spec.weights_sha256,
            preprocessing=spec.preprocessing,
            vector_kind=spec.vector_kind,
            vector_size=spec.vector_size,
            is_default=default(session, spec.stage) is None,
        )
        session.execute(statement.on_conflict_do_nothing(index_elements=[Generation.fingerprint]))
        generation = session.scalars(known).one()
    generation.dropped_at = None
    if not generation.is_default and default(session, spec.stage) is None:  # the one that served was dropped
        wait_for_lock(session, DEFAULT_LOCK)
        generation.is_default = default(session, spec.stage) is None
        session.flush()
    partitions.ensure(session, generation.id, spec.stage)
    return generation.id


def default(session: Session, stage: str = RECOGNITION) -> Generation | None:
    """Return the generation of a stage that serves search; None as long as nothing was recorded."""
    if moment_of(session) is not None:
        return _serving(session).get(stage)
    return session.scalars(select(Generation).where(Generation.is_default, Generation.stage == stage)).one_or_none()


def serving(session: Session, stages: Sequence[str]) -> frozenset[str]:
    """Return those of these stages that have a generation which serves search."""
    if moment_of(session) is not None:
        return frozenset(_serving(session)).intersection(stages)
    return frozenset(
        session.scalars(select(Generation.stage).where(Generation.is_default, Generation.stage.in_(stages)))
    )


def _serving(session: Session) -> dict[str, Generation]:
    """Return the generations that serve search, by stage. They are detached, because other sessions use them too."""

    def look_up() -> dict[str, Generation]:
        found = {each.stage: each for each in session.scalars(select(Generation).where(Generation.is_default))}
        for each in found.values():
            session.expunge(each)
        return found

    return remembered(session, "generations that serve", look_up)


def get(session: Session, generation_id: int, stage: str | None = RECOGNITION) -> Generation:
    """Return a generation of a stage (None: of any).

    Raises:
        NoGenerationError: there is none, or it was dropped.
    """
    generation = _known(session, generation_id) if generation_id < 2**15 else None
    if generation is None or generation.dropped_at is not None or stage not in {None, generation.stage}:
        of_stage = select(Generation.id).where(Generation.dropped_at.is_(None)).order_by(Generation.id)
        if stage is not None:
            of_stage = of_stage.where(Generation.stage == stage)
        known = ", ".join(str(known_id) for known_id in session.scalars(of_stage))
        raise NoGenerationError(f"there is no generation {generation_id}; generations: {known or 'none'}")
    return generation


def _known(session: Session, generation_id: int) -> Generation | None:
    if moment_of(session) is not None:
        for each in _serving(session).values():  # nearly every search asks for one of these
            if each.id == generation_id:
                return each
    return session.get(Generation, generation_id)


def views(session: Session) -> list[GenerationView]:
    """Return every generation of recognition that was not dropped, oldest first."""
    rows = session.execute(
        select(Generation, Vocabulary)
        .join(Vocabulary, Vocabulary.id == Generation.vocabulary_id)
        .where(Generation.dropped_at.is_(None))
        .order_by(Generation.id)
    )
    return [
        GenerationView(
            id=generation.id,
            model=generation.model,
            weights_sha256=generation.weights_sha256,
            preprocessing=generation.preprocessing,
            vector_kind=generation.vector_kind,
            vector_size=generation.vector_size,
            vocabulary=vocabulary.name,
            tags=vocabulary.size,
            is_default=generation.is_default,
            created_at=generation.created_at,
            served_until=generation.served_until,
        )
        for generation, vocabulary in rows
    ]

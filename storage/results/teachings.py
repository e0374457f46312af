"""What people taught: vocabularies with heads, and the images that taught them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text

from storage.database import wait_for_lock
from storage.errors import NotFoundError
from storage.results import generations, vocabularies
from storage.tables import Generation, Head, Teaching, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from storage.results.vocabularies import VocabularySpec

_LOCK = 7_263_776


@dataclass(frozen=True, slots=True)
class HeadRow:
    """How a tag gets its score, and what taught it.

    Attributes:
        tag_id: of the taught vocabulary.
        method: ``threshold``, ``description``, ``own+head`` or ``head``.
        weights: float32, little-endian.
        own: weight of the model's own score.
        bias: added to the sum.
        yes: the images named as being of this kind.
        no: those named as not being of it.
        report: what it did on held-out pictures.
        said_by: who taught it.
        taught_at: when; None: now.
    """

    tag_id: int
    method: str
    weights: bytes
    own: float
    bias: float
    yes: list[int]
    no: list[int]
    report: dict[str, Any]
    said_by: str
    taught_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TaughtTag:
    """A tag that people taught, under the newest vocabulary that has it.

    Attributes:
        tag: its name.
        method: how it gets its score.
        vocabulary: name of the vocabulary.
        generations: those whose vocabulary has the tag as it was taught then.
        is_serving: whether search uses one of these.
        yes: the number of images named as being of this kind.
        no: the number of those named as not being of it.
        report: what it did on held-out pictures.
        said_by: who taught it.
        taught_at: when.
    """

    tag: str
    method: str
    vocabulary: str
    generations: list[int]
    is_serving: bool
    yes: int
    no: int
    report: dict[str, Any]
    said_by: str
    taught_at: datetime


@dataclass(frozen=True, slots=True)
class Basis:
    """What a vocabulary is made of.

    Attributes:
        base_id: the vocabulary that was taught further; the vocabulary itself if nobody taught it.
        mended: the tags whose scores are not the model's own, each with a hash of what gives them their scores. The
            name is part of it, since it may be all that does.
    """

    base_id: int
    mended: Mapping[int, str]


def basis(session: Session, vocabulary_id: int) -> Basis:
    """Return what a vocabulary is made of."""
    base_id = session.scalar(select(Teaching.base_id).where(Teaching.vocabulary_id == vocabulary_id))
    if base_id is None:
        return Basis(vocabulary_id, {})
    rows = session.execute(
        text(
            """SELECT head.tag_id, md5(concat_ws(' ', head.method, head.own, head.bias, encode(head.weights, 'hex'),
                   tag.threshold, tag.name)) AS hash
               FROM head JOIN tag ON tag.vocabulary_id = head.vocabulary_id AND tag.id = head.tag_id
               WHERE head.vocabulary_id = :id AND head.method <> 'threshold'"""
        ),
        {"id": vocabulary_id},
    )
    return Basis(base_id, {row.tag_id: row.hash for row in rows})


def is_taught(session: Session, vocabulary_id: int | None) -> bool:
    """Return whether a vocabulary has heads."""
    found = select(Teaching.vocabulary_id).where(Teaching.vocabulary_id == vocabulary_id)
    return vocabulary_id is not None and session.scalar(found) is not None


def heads(session: Session, vocabulary_id: int) -> list[HeadRow]:
    """Return the heads of a vocabulary, by tag id."""
    rows = session.scalars(select(Head).where(Head.vocabulary_id == vocabulary_id).order_by(Head.tag_id))
    return [
        HeadRow(
            row.tag_id,
            row.method,
            row.weights,
            row.own,
            row.bias,
            row.yes,
            row.no,
            row.report,
            row.said_by,
            row.taught_at,
        )
        for row in rows
    ]


def lock(session: Session) -> None:
    """Let others who store or erase what was taught wait until the transaction ends. Take it before any other lock.

    Two people who teach at once so get vocabularies of different names.
    """
    wait_for_lock(session, _LOCK)


def add(
    session: Session, spec: VocabularySpec, heads: Sequence[HeadRow], *, from_generation_id: int, said_by: str
) -> int:
    """Store a taught vocabulary. Return its id. If one with the same tags and heads is there, nothing changes.

    ``spec.name`` is that of the vocabulary that was taught; the new one is called ``NAME-taught-1`` and so on.

    Raises:
        NotFoundError: the generation is gone.
        UsageError: it has too many tags.
    """
    lock(session)
    known = session.scalar(select(Vocabulary.id).where(Vocabulary.sha256 == spec.sha256))
    if known is not None:
        return known
    generation = session.get(Generation, from_generation_id)
    if generation is None:
        raise NotFoundError(f"there is no generation {from_generation_id}")
    base_id = basis(session, generation.vocabulary_id).base_id
    vocabulary_id = vocabularies.ensure(session, spec)
    session.add(
        Teaching(vocabulary_id=vocabulary_id, base_id=base_id, from_generation_id=from_generation_id, said_by=said_by)
    )
    session.flush()
    for head in heads:
        row = Head(
            vocabulary_id=vocabulary_id,
            tag_id=head.tag_id,
            method=head.method,
            weights=head.weights,
            own=head.own,
            bias=head.bias,
            yes=head.yes,
            no=head.no,
            report=head.report,
            said_by=head.said_by,
        )
        if head.taught_at is not None:
            row.taught_at = head.taught_at
        session.add(row)
    session.flush()
    return vocabulary_id


def next_name(session: Session, vocabulary_id: int) -> str:
    """Return the name of the next vocabulary that is taught further from this one, or from one that is made of it.

    ``lock`` must be held until it is stored.
    """
    base_id = basis(session, vocabulary_id).base_id
    base = session.scalars(select(Vocabulary.name).where(Vocabulary.id == base_id)).one()
    taken = set(session.scalars(select(Vocabulary.name)))
    number = 1
    while f"{base}-taught-{number}" in taken:
        number += 1
    return f"{base}-taught-{number}"


def forget(session: Session, image_ids: Sequence[int]) -> None:
    """Forget that images taught tags. The tags stay. ``lock`` must be held."""
    session.execute(
        text(
            """
            UPDATE head SET
                yes = ARRAY(SELECT id FROM unnest(yes) WITH ORDINALITY AS u (id, n) WHERE id <> ALL(:ids) ORDER BY n),
                no = ARRAY(SELECT id FROM unnest(no) WITH ORDINALITY AS u (id, n) WHERE id <> ALL(:ids) ORDER BY n)
            WHERE yes && CAST(:ids AS bigint[]) OR no && CAST(:ids AS bigint[])
            """
        ),
        {"ids": list(image_ids)},
    )


def taught(session: Session) -> list[TaughtTag]:
    """Return the tags that people taught, each as it was taught last, by name."""
    rows = session.execute(
        text(
            """
            WITH every AS (
                SELECT head.*, tag.name, lower(tag.name) AS folded
                FROM head JOIN tag ON tag.vocabulary_id = head.vocabulary_id AND tag.id = head.tag_id
            ), newest AS (
                SELECT DISTINCT ON (folded) * FROM every ORDER BY folded, taught_at DESC, vocabulary_id DESC
            ), used AS (  -- a vocabulary that is taught further has the heads of the former one, with their times
                SELECT newest.folded, g.id, g.is_default FROM newest
                JOIN every USING (folded, taught_at)
                JOIN generation AS g ON g.vocabulary_id = every.vocabulary_id AND g.dropped_at IS NULL
            )
            SELECT newest.name, newest.method, vocabulary.name AS vocabulary, cardinality(newest.yes) AS yes,
                cardinality(newest.no) AS no, newest.report, newest.said_by, newest.taught_at,
                ARRAY(SELECT id FROM used WHERE used.folded = newest.folded ORDER BY id) AS generations,
                EXISTS (SELECT FROM used WHERE used.folded = newest.folded AND used.is_default) AS is_serving
            FROM newest JOIN vocabulary ON vocabulary.id = newest.vocabulary_id ORDER BY newest.folded
            """
        )
    )
    return [
        TaughtTag(
            row.name,
            row.method,
            row.vocabulary,
            row.generations,
            row.is_serving,
            row.yes,
            row.no,
            row.report,
            row.said_by,
            row.taught_at,
        )
        for row in rows
    ]


def tags_in_use(session: Session, model: str) -> int | None:
    """Return the vocabulary in use, if people taught it to this model: new images get the same tags as the others."""
    serving = generations.default(session)
    if serving is None or serving.model != model or not is_taught(session, serving.vocabulary_id):
        return None
    return serving.vocabulary_id

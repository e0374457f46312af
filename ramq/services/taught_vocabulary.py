"""A taught vocabulary: the one of a generation, with what was learnt."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from storage.results import teachings, vocabularies
from storage.results.generation_views import VocabularyTag
from storage.results.teachings import HeadRow
from storage.results.vocabularies import VocabularySpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from ram_core.teaching.fitting import Fitted
    from ramq.services.lessons import Lesson
    from ramq.services.teach_views import TeachReport
    from storage.results.teachings import TaughtTag
    from storage.tables import Generation


def head_row(lesson: Lesson, fitted: Fitted, report: TeachReport, by: str) -> HeadRow:
    """Return what to store of a tag that was learnt."""
    head = fitted.head
    told = asdict(report)
    del told["seconds"]
    weights = head.weights.astype("<f4").tobytes()
    return HeadRow(lesson.tag_id, head.method, weights, head.own, head.bias, lesson.yes, lesson.no, told, by)


def store(
    session: Session,
    source: Generation,
    rows: Sequence[HeadRow],
    lessons: Sequence[Lesson],
    reports: Sequence[TeachReport],
    by: str,
) -> int:
    """Store the vocabulary of a generation with what was learnt. Return its id."""
    from ram_core.teaching.heads import Head, heads_sha256  # noqa: PLC0415  (loads torch)
    from ram_core.vocabulary import TagVocabulary  # noqa: PLC0415

    teachings.lock(session)
    tags = list(vocabularies.tags(session, source.vocabulary_id))
    heads = {row.tag_id: row for row in teachings.heads(session, source.vocabulary_id)}
    for lesson, report, row in zip(lessons, reports, rows, strict=True):
        if lesson.is_new:
            # Where every tag has descriptions, the new one needs some too, though they do not score it.
            described = None if tags[0].descriptions is None else [f"a photo of {lesson.name}."]
            tags.append(VocabularyTag(lesson.tag_id, lesson.name, None, report.threshold, described, []))
        else:
            tags[lesson.tag_id] = replace(tags[lesson.tag_id], threshold=report.threshold)
        heads[lesson.tag_id] = row
    has_descriptions = tags[0].descriptions is not None
    vocabulary = TagVocabulary(
        teachings.next_name(session, source.vocabulary_id),
        tuple(tag.name for tag in tags),
        tuple(tag.name_zh for tag in tags),
        np.array([tag.threshold for tag in tags], dtype=np.float32),
        tuple(tuple(tag.descriptions or ()) for tag in tags) if has_descriptions else None,
        tuple(tuple(tag.synonyms) for tag in tags) if any(tag.synonyms for tag in tags) else None,
        heads_sha256(
            [
                Head(row.tag_id, cast("Any", row.method), np.frombuffer(row.weights, "<f4"), row.own, row.bias)
                for row in heads.values()
            ]
        ),
    )
    spec = VocabularySpec(
        vocabulary.sha256,
        vocabulary.name,
        vocabulary.names,
        vocabulary.names_zh,
        [float(threshold) for threshold in vocabulary.thresholds],
        vocabulary.descriptions,
        vocabulary.synonyms,
    )
    ordered = [heads[tag_id] for tag_id in sorted(heads)]
    return teachings.add(session, spec, ordered, from_generation_id=source.id, said_by=by)


def left_behind(session: Session, source: Generation | None, taught: Sequence[str]) -> list[str]:
    """Return in words which taught tags are not in use: a vocabulary that is made from ``source`` does not have them.

    ``taught`` are the tags that are taught now.
    """
    if source is None:
        return []
    tags = vocabularies.tags(session, source.vocabulary_id)
    there = {tags[row.tag_id].name.lower() for row in teachings.heads(session, source.vocabulary_id)}
    there.update(name.lower() for name in taught)
    return [_told(one) for one in teachings.taught(session) if not one.is_serving and one.tag.lower() not in there]


def _told(one: TaughtTag) -> str:
    told = f"{one.tag} was taught in {one.vocabulary}, which is not in use; the new generation will not have it."
    if one.generations:
        return f"{told} Use it first: `ramq generations use {one.generations[-1]}`"
    return f"{told} It has no results: wait for its job and use them first, or teach {one.tag} again afterwards"

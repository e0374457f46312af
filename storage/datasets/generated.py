"""What recognition made of the pictures of a data set, under their current bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import text

from storage.datasets.sources import Recorded
from storage.results import generations
from storage.tables import RECOGNITION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

NO_RECORD = "no_record"
"""Stands for the class of failure of pictures that did not fail, and yet have no record of their current bytes: their
originals are missing, or have changed since."""


def read(session: Session, generation_ids: Sequence[int], image_ids: Sequence[int]) -> dict[int, Recorded]:
    """Return the records of images under their current bytes, by image. The first generation that has one counts."""
    found: dict[int, Recorded] = {}
    for generation_id in dict.fromkeys(generation_ids):
        rows = session.execute(
            text(
                f"""SELECT record.image_id, record.generation_id, record.version, record.tags, record.scores,
                        record.caption, record.captioner
                    FROM record JOIN image ON image.id = record.image_id AND image.version = record.version
                    WHERE record.generation_id = {generation_id:d} AND record.image_id = ANY(:ids)"""  # noqa: S608
            ),
            {"ids": [image_id for image_id in image_ids if image_id not in found]},
        )
        found |= {image_id: Recorded(*told) for image_id, *told in rows}
    return found


def failures(session: Session, generation_ids: Sequence[int], image_ids: Sequence[int]) -> dict[int, str]:
    """Return why images have no record of their current bytes: the class of the newest failure, or ``NO_RECORD``."""
    rows = session.execute(
        text(
            """SELECT DISTINCT ON (failure.image_id) failure.image_id, failure.error_class
               FROM failure JOIN image ON image.id = failure.image_id AND image.version = failure.version
               WHERE failure.image_id = ANY(:ids) AND failure.generation_id = ANY(:generations)
               ORDER BY failure.image_id, failure.failed_at DESC"""
        ),
        {"ids": list(image_ids), "generations": list(generation_ids)},
    )
    known = {row.image_id: row.error_class for row in rows}
    return {image_id: known.get(image_id, NO_RECORD) for image_id in image_ids}


def vocabulary_of(session: Session, generation_id: int) -> int:
    """Return the vocabulary of a generation of recognition. Raises ``NoGenerationError`` if it was dropped."""
    return generations.get(session, generation_id).vocabulary_id


class Recogniser(NamedTuple):
    """A model with a vocabulary, and its newest generation. ``vocabulary_id`` None: its own."""

    model: str
    vocabulary_id: int | None
    generation_id: int | None


def recogniser(session: Session, model: str | None, otherwise: str) -> Recogniser:
    """Return the model that serves search, or the newest generation of another one, as jobs named them."""
    serving = generations.default(session) if model is None else None
    if model is None and serving is None:
        return Recogniser(otherwise, None, None)
    row = session.execute(
        text(
            """SELECT job.model, job.vocabulary_id, job.generation_id FROM job
               JOIN generation ON generation.id = job.generation_id AND generation.dropped_at IS NULL
               WHERE job.stage = :stage AND (job.generation_id = :serving
                   OR (CAST(:model AS text) IS NOT NULL AND job.model = :model AND job.vocabulary_id IS NULL))
               ORDER BY job.id DESC LIMIT 1"""
        ),
        {"stage": RECOGNITION, "serving": None if serving is None else serving.id, "model": model},
    ).one_or_none()
    if row is not None:
        return Recogniser(row.model, row.vocabulary_id, row.generation_id)
    return Recogniser(model, None, None) if model else Recogniser(serving.model, None, serving.id)  # type: ignore[union-attr]

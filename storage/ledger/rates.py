"""How fast earlier jobs of a stage were, to say beforehand how long another one takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

_JOBS = 50
"""The newest jobs of a generation, which are asked."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What closed shards took.

    Attributes:
        images: in these shards, failed ones included. Those that took over the results of others are not.
        seconds: in which they were worked on. Time in which several workers did counts once.
        is_alike: whether their jobs asked for the same, such as the same tags.
    """

    images: int
    seconds: float
    is_alike: bool

    @property
    def images_per_second(self) -> float:
        """The mean over all images."""
        return self.images / self.seconds


def generation_of(
    session: Session, stage: str, model: str, weights_sha256: str | None = None, *, or_dropped: bool = False
) -> int | None:
    """Return the newest generation of a stage to which jobs with a model wrote; None if there is none.

    Args:
        session: a transaction.
        stage: the stage.
        model: the model.
        weights_sha256: it must have these weights; None: any.
        or_dropped: also if its results were dropped.
    """
    found: int | None = session.scalar(
        text(
            """SELECT job.generation_id FROM job JOIN generation ON generation.id = job.generation_id
               WHERE job.stage = :stage AND job.model = :model AND (generation.dropped_at IS NULL OR :or_dropped)
                 AND (CAST(:weights AS text) IS NULL OR generation.weights_sha256 = :weights)
               ORDER BY job.id DESC LIMIT 1"""
        ),
        {"stage": stage, "model": model, "weights": weights_sha256, "or_dropped": or_dropped},
    )
    return found


def measured(session: Session, stage: str, generation_id: int, options: Mapping[str, Any]) -> Rate | None:
    """Return the rate of earlier jobs of a generation; None if no shard of it is complete.

    Those that asked for the same count, or if there are none, all.
    """
    rows = session.execute(
        text(
            f"""
            SELECT options = :options AS is_alike, sum(images)::bigint AS images, sum(active_seconds) AS seconds
            FROM (
                SELECT options, done + failed - copied AS images, active_seconds FROM job
                WHERE stage = :stage AND generation_id = :generation_id AND active_seconds > 0
                    AND done + failed > copied
                ORDER BY id DESC LIMIT {_JOBS}
            ) AS job GROUP BY 1 ORDER BY 1 DESC
            """  # noqa: S608  (a constant of this file)
        ).bindparams(bindparam("options", type_=JSONB)),
        {"stage": stage, "generation_id": generation_id, "options": dict(options)},
    ).first()
    return None if rows is None else Rate(rows.images, rows.seconds, rows.is_alike)

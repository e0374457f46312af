"""The tags that images have, by name, for stages that look for them in the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.tables import RECOGNITION, SCORE_SCALE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

MOST_TAGS = 40
"""Of one image. A detector needs a further run for each few dozen tags."""


def names(session: Session, image_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """Return the names of the tags assigned to these images, highest score first, at most ``MOST_TAGS`` of each.

    They are those of the generation of recognition that serves search, with people's corrections. Rules about tags of
    an archive are not applied: they say what is shown.
    """
    rows = session.execute(
        text(
            """
            SELECT image_id, (array_agg(name ORDER BY score DESC, name))[1:CAST(:most AS int)] AS names FROM (
                SELECT record.image_id, tag.name, max(given.score) AS score
                FROM generation JOIN record ON record.generation_id = generation.id
                CROSS JOIN LATERAL corrected_tags(record.image_id, record.generation_id, record.tags, record.scores)
                    AS corrected
                CROSS JOIN LATERAL unnest(corrected.tags, corrected.scores) AS given (tag_id, score)
                JOIN tag ON tag.vocabulary_id = generation.vocabulary_id AND tag.id = given.tag_id
                WHERE generation.is_default AND generation.stage = :stage AND record.image_id = ANY(:ids)
                  AND given.score > round(tag.threshold * :scale)
                GROUP BY record.image_id, tag.name
            ) AS assigned GROUP BY image_id
            """
        ),
        {"ids": list(image_ids), "stage": RECOGNITION, "scale": SCORE_SCALE, "most": MOST_TAGS},
    )
    return {row.image_id: tuple(row.names) for row in rows}

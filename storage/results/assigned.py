"""The tags that images have, by name, for stages that look for them in the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.results import policies
from storage.tables import RECOGNITION, SCORE_SCALE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

MOST_TAGS = 40
"""Of one image. A detector needs a further run for each few dozen tags."""


def names(session: Session, image_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """Return the names of the tags assigned to these images, highest score first, at most ``MOST_TAGS`` of each.

    They are those of the generation of recognition that serves search, with people's corrections, but without those
    that a rule says are no things. Rules about which tags count are not applied: they say what is shown.
    """
    ruled_out = policies.no_things(session)
    rows = session.execute(
        text(
            """
            SELECT image_id, archive_id, array_agg(name ORDER BY score DESC, name) AS names FROM (
                SELECT record.image_id, image.archive_id, tag.name, max(given.score) AS score
                FROM generation JOIN record ON record.generation_id = generation.id
                JOIN image ON image.id = record.image_id
                CROSS JOIN LATERAL corrected_tags(record.image_id, record.generation_id, record.tags, record.scores)
                    AS corrected
                CROSS JOIN LATERAL unnest(corrected.tags, corrected.scores) AS given (tag_id, score)
                JOIN tag ON tag.vocabulary_id = generation.vocabulary_id AND tag.id = given.tag_id
                WHERE generation.is_default AND generation.stage = :stage AND record.image_id = ANY(:ids)
                  AND given.score > round(tag.threshold * :scale)
                GROUP BY record.image_id, image.archive_id, tag.name
            ) AS assigned GROUP BY image_id, archive_id
            """
        ),
        {"ids": list(image_ids), "stage": RECOGNITION, "scale": SCORE_SCALE},
    )
    return {row.image_id: tuple(things(row.names, row.archive_id, ruled_out)[:MOST_TAGS]) for row in rows}


def things(names: Sequence[str], archive_id: int, ruled_out: Mapping[int | None, frozenset[str]]) -> list[str]:
    """Return those of these names that are not ruled out as no things (``policies.no_things``) in an archive."""
    out = ruled_out.get(None, frozenset()) | ruled_out.get(archive_id, frozenset())
    return [name for name in names if name.lower() not in out]

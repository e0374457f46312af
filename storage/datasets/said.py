"""People's corrections in a version: which would change it, and applying them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.datasets import labels

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_CHANGES = """
    FROM dataset_item AS item JOIN correction USING (image_id)
    JOIN tag ON tag.vocabulary_id = :vocabulary_id AND lower(tag.name) = correction.name
    LEFT JOIN dataset_label AS label
        ON label.version_id = {version_id} AND label.image_id = item.image_id AND label.tag_id = tag.id
    WHERE item.version_id = {version_id} AND item.image_id BETWEEN :first AND :last AND CASE
        WHEN correction.is_present THEN label.tag_id IS NULL OR label.reason IS NOT NULL
            OR 'corrected' <> ALL (label.origins)
        ELSE label.tag_id IS NULL OR label.reason IS DISTINCT FROM 'removed' END
"""
_ALL = {"first": 0, "last": 2**63 - 1}


@dataclass(frozen=True, slots=True)
class Changes:
    """How many labels people's corrections change: tags of pictures that they say are there, and are not."""

    present: int
    removed: int

    @property
    def total(self) -> int:
        """Both."""
        return self.present + self.removed


def changes(session: Session, version_id: int, vocabulary_id: int) -> Changes:
    """Count the corrections that a version does not have yet."""
    row = session.execute(
        text(
            f"""SELECT count(*) FILTER (WHERE correction.is_present) AS present,
                    count(*) FILTER (WHERE NOT correction.is_present) AS removed
                {_CHANGES.format(version_id=int(version_id))}"""
        ),
        {"vocabulary_id": vocabulary_id, **_ALL},
    ).one()
    return Changes(row.present, row.removed)


def apply(session: Session, version_id: int, vocabulary_id: int, first: int, last: int) -> Changes:
    """Put corrections into the labels of the pictures with ids from ``first`` to ``last``. Return what changed.

    A tag that people say is there is kept, with the origin ``corrected``. One that they removed is dropped with the
    reason ``removed``, also where nothing named it: a later step must not add it.
    """
    row = session.execute(
        text(
            f"""
            WITH put AS (
                INSERT INTO dataset_label AS label (image_id, version_id, tag_id, origins, reason)
                SELECT item.image_id, {version_id:d}, tag.id, '{{corrected}}',
                    CASE WHEN NOT correction.is_present THEN 'removed' END
                {_CHANGES.format(version_id=int(version_id))}
                ORDER BY item.image_id, tag.id
                ON CONFLICT (image_id, version_id, tag_id) DO UPDATE SET reason = excluded.reason,
                    origins = ARRAY(
                        SELECT origin FROM unnest(CAST(:origins AS text[])) WITH ORDINALITY AS known (origin, n)
                        WHERE origin = ANY (label.origins || excluded.origins) ORDER BY n)
                RETURNING reason
            )
            SELECT count(*) FILTER (WHERE reason IS NULL) AS present,
                count(*) FILTER (WHERE reason IS NOT NULL) AS removed FROM put
            """  # noqa: S608  (constants and numbers)
        ),
        {"vocabulary_id": vocabulary_id, "first": first, "last": last, "origins": list(labels.ORIGINS)},
    ).one()
    return Changes(row.present, row.removed)

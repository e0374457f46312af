"""What is looked for in the pictures of a data set: the tags that each of them has in a version.

The option ``dataset`` of a job of the stage ``locate`` is the id of a version. It never changes, so a picture that was
done for it need not be done again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.results import assigned, policies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

OPTION = "dataset"


def names(session: Session, version_id: int, image_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """Return the names of the tags that these pictures have in a version, ascending, without those that are no things.

    All of them, however many: a tag that was not looked for cannot be missed.
    """
    ruled_out = policies.no_things(session)
    rows = session.execute(
        text(
            """SELECT label.image_id, image.archive_id, array_agg(DISTINCT tag.name ORDER BY tag.name) AS names
               FROM dataset_version AS version JOIN dataset ON dataset.id = version.dataset_id
               JOIN dataset_label AS label ON label.version_id = version.id AND label.reason IS NULL
               JOIN image ON image.id = label.image_id
               JOIN tag ON tag.vocabulary_id = dataset.vocabulary_id AND tag.id = label.tag_id
               WHERE version.id = :version_id AND label.version_id = :version_id AND label.image_id = ANY(:ids)
               GROUP BY label.image_id, image.archive_id"""
        ),
        {"version_id": version_id, "ids": list(image_ids)},
    )
    return {row.image_id: tuple(assigned.things(row.names, row.archive_id, ruled_out)) for row in rows}

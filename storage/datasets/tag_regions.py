"""The regions of a tag in the pictures of a version that have it: read page by page, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import text

from storage.datasets import sought
from storage.tables import CORNER_SCALE, SCORE_SCALE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class TagImage:
    """A picture that has a tag.

    Attributes:
        image_id: the image.
        archive_id: its archive.
        is_said: whether a person said that it has the tag.
        is_looked_at: whether the tag was looked for in its current bytes, as the version has it, and its regions have
            vectors.
        is_cut: whether there were more regions than are kept, so that those of the tag may be missing.
    """

    image_id: int
    archive_id: int
    is_said: bool
    is_looked_at: bool = True
    is_cut: bool = False


class TagRegion(NamedTuple):
    """A region of a tag, and what was computed for it as a picture of its own.

    Attributes:
        image_id: the image.
        number: of the region in it, from 1.
        box: left, top, right, bottom as fractions of the picture.
        vector: packed (``results.packing``).
        tags: (name, score 0..1) that the model assigned to it.
    """

    image_id: int
    number: int
    box: Box
    vector: bytes
    tags: list[tuple[str, float]]


# Whether a person has said that the picture has the tag: in the version, or since.
_IS_SAID = """('corrected' = ANY(label.origins) OR EXISTS (SELECT FROM correction
    WHERE correction.image_id = label.image_id AND correction.name = lower(CAST(:name AS text))
        AND correction.is_present))"""


def located(  # noqa: PLR0913  (the conditions of one query)
    session: Session, *, version_id: int, tag_id: int, names: Sequence[str], generation_id: int, after: int, limit: int
) -> tuple[list[TagImage], list[TagRegion]]:
    """Return the next pictures of a version that keep a tag, by id, and the regions of the tag in them.

    Args:
        session: a transaction.
        version_id: the version whose tags were looked for.
        tag_id: the tag.
        names: its name, then those of kinds of it: of a tag and a more general one at the same place, a locator keeps
            only the region of the former.
        generation_id: of the stage ``crops``.
        after: the last image of the previous page; 0 at first.
        limit: pictures at most.
    """
    # The numbers themselves let PostgreSQL look at one partition only.
    rows = session.execute(
        text(
            f"""
            SELECT label.image_id, image.archive_id, {_IS_SAID} AS is_said,
                coalesce(place.version = image.version AND cropping.version = image.version
                    AND cropping.regions_xid = located_image.xid
                    AND EXISTS (SELECT FROM job WHERE job.id = place.job_id
                        AND job.options = jsonb_build_object('{sought.OPTION}', {version_id:d})), false)
                    AS is_looked_at,
                coalesce(place.is_cut, false) AS is_cut
            FROM dataset_label AS label JOIN image ON image.id = label.image_id
            LEFT JOIN located_image ON located_image.image_id = label.image_id
            LEFT JOIN localization AS place ON place.image_id = label.image_id
                AND place.generation_id = located_image.generation_id
            LEFT JOIN cropping ON cropping.image_id = label.image_id AND cropping.generation_id = {generation_id:d}
            WHERE label.version_id = {version_id:d} AND label.tag_id = :tag_id AND label.reason IS NULL
                AND label.image_id > :after
            ORDER BY label.image_id LIMIT :limit
            """  # noqa: S608  (constants and numbers)
        ),
        {"tag_id": tag_id, "name": names[0], "after": after, "limit": limit},
    )
    pictures = [TagImage(*row) for row in rows]
    wanted = [picture.image_id for picture in pictures if picture.is_looked_at]
    crops = session.execute(
        text(
            f"""SELECT image_id, number, box, v, tags, scores FROM crop
                WHERE generation_id = {generation_id:d} AND image_id = ANY(:ids) AND lower(tag) = ANY(:names)
                ORDER BY image_id, number"""  # noqa: S608  (a number)
        ),
        {"ids": wanted, "names": [each.lower() for each in names]},
    )
    return pictures, [
        TagRegion(
            row.image_id,
            row.number,
            _box(row.box),
            bytes(row.v),
            [(tag, score / SCORE_SCALE) for tag, score in zip(row.tags, row.scores, strict=True)],
        )
        for row in crops
    ]


def whole(session: Session, *, version_id: int, tag_id: int, name: str, after: int, limit: int) -> list[TagImage]:
    """Return the next pictures of a version that keep a tag, by id, each as its own region."""
    rows = session.execute(
        text(
            f"""SELECT label.image_id, image.archive_id, {_IS_SAID} AS is_said
                FROM dataset_label AS label JOIN image ON image.id = label.image_id
                WHERE label.version_id = {version_id:d} AND label.tag_id = :tag_id AND label.reason IS NULL
                    AND label.image_id > :after
                ORDER BY label.image_id LIMIT :limit"""  # noqa: S608  (constants and numbers)
        ),
        {"tag_id": tag_id, "name": name, "after": after, "limit": limit},
    )
    return [TagImage(*row) for row in rows]


def tags_of(session: Session, version_id: int) -> list[tuple[int, str, int]]:
    """Return (id, name, number of pictures that keep it) of each tag of a version, most pictures first."""
    rows = session.execute(
        text(
            f"""SELECT label.tag_id, tag.name, count(*) FILTER (WHERE label.reason IS NULL) AS number
                FROM dataset_label AS label
                JOIN dataset_version AS version ON version.id = label.version_id
                JOIN dataset ON dataset.id = version.dataset_id
                JOIN tag ON tag.vocabulary_id = dataset.vocabulary_id AND tag.id = label.tag_id
                WHERE label.version_id = {version_id:d} GROUP BY 1, 2 ORDER BY 3 DESC, 1"""  # noqa: S608  (a number)
        )
    )
    return [(row.tag_id, row.name, int(row.number)) for row in rows]


def having(session: Session, version_id: int, tag_id: int, image_ids: Sequence[int]) -> list[int]:
    """Return those of these images that have a tag in a version, be it dropped."""
    rows = session.scalars(
        text(
            f"""SELECT image_id FROM dataset_label
                WHERE version_id = {version_id:d} AND tag_id = :tag_id AND image_id = ANY(:ids)"""  # noqa: S608
        ),
        {"tag_id": tag_id, "ids": list(image_ids)},
    )
    return list(rows)


def any_of(session: Session, generation_id: int, image_ids: Sequence[int]) -> list[bytes]:
    """Return the packed vectors of all regions of some images, in order of their ids."""
    rows = session.scalars(
        text(
            f"""SELECT v FROM crop WHERE generation_id = {generation_id:d} AND image_id = ANY(:ids)
                ORDER BY image_id, number"""  # noqa: S608  (a number)
        ),
        {"ids": list(image_ids)},
    )
    return [bytes(each) for each in rows]


def recogniser_vocabulary(session: Session, generation_id: int) -> int | None:
    """Return the vocabulary of the model that made a generation of ``crops``: the tags that it assigns to regions.

    None: that model has not recognised images with its own vocabulary, so its tags are not known here.
    """
    found: int | None = session.scalar(
        text(
            """SELECT other.vocabulary_id FROM generation AS own
               JOIN generation AS other ON other.model = own.model AND other.weights_sha256 = own.weights_sha256
                   AND other.stage = 'recognition'
               WHERE own.id = :id AND EXISTS (SELECT FROM job WHERE job.generation_id = other.id
                   AND job.vocabulary_id IS NULL AND job.from_generation_id IS NULL)
               ORDER BY other.id DESC LIMIT 1"""
        ),
        {"id": generation_id},
    )
    return found


def _box(corners: Sequence[int]) -> Box:
    left, top, right, bottom = (corner / CORNER_SCALE for corner in corners)
    return left, top, right, bottom

"""Regions as pictures of their own: their vectors and tags, as the stage ``crops`` computed them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import text

from storage.database import driver_connection
from storage.errors import NotFoundError
from storage.results import generations, region_lists, regions
from storage.results.index_rows import REGIONS_EACH
from storage.results.packing import CODE, unpack_vectors
from storage.results.region_boxes import corners_of
from storage.tables import SCORE_SCALE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from storage.results.records import Provenance
    from storage.results.region_boxes import Corners
    from storage.results.region_views import Box, RegionView

STAGE = "crops"

MOST = 300
"""Regions of an image that are cropped: as many as a locator returns. It must be below ``REGIONS_EACH``."""


class Sought(NamedTuple):
    """The regions of an image that shall be cropped.

    Attributes:
        version: of the bytes in which they were located.
        xid: ``located_image.xid`` when they were read.
        regions: (tag, box) of each, as people see them, at most ``MOST``.
    """

    version: str
    xid: str
    regions: tuple[tuple[str, Box], ...]


@dataclass(frozen=True, slots=True)
class FoundCrop:
    """A region as a picture of its own.

    Attributes:
        tag: of the region.
        box: of the region.
        vector: packed (``packing.pack_vectors``).
        tags: names that the model assigns to it, highest score first.
        scores: their scores, in units of ``1 / SCORE_SCALE``.
    """

    tag: str
    box: Box
    vector: bytes
    tags: Sequence[str]
    scores: Sequence[int]


@dataclass(frozen=True, slots=True)
class CropsRow:
    """What a worker computed for the regions of one image. ``xid``: see ``Sought``; None: nothing was located in it."""

    image_id: int
    version: str
    xid: str | None
    crops: Sequence[FoundCrop]


@dataclass(frozen=True, slots=True)
class StoredCrop:
    """A region with a vector, as it was when it was cropped.

    Attributes:
        row_id: its row in the index.
        tag: of the region.
        corners: its box.
        tags: (name, score 0..1) that the model assigned to it as a picture, highest score first.
    """

    row_id: int
    tag: str
    corners: Corners
    tags: list[tuple[str, float]]

    def is_of(self, region: RegionView) -> bool:
        """Return whether an image's region, as people see it now, is the one that was cropped."""
        return (self.tag, self.corners) == (region.tag, corners_of(region.box))


# The generation is part of the statements: as a parameter it would lock, and plan for, the partitions of all of them.
_WRITE = """
    WITH mended AS (DELETE FROM failure WHERE job_id = %(job_id)s AND image_id = ANY(%(ids)b))
    INSERT INTO cropping (image_id, generation_id, job_id, version, regions_xid)
    SELECT image_id, {generation_id:d}, %(job_id)s, version, CAST(xid AS xid8)
    FROM unnest(CAST(%(ids)b AS bigint[]), CAST(%(versions)b AS text[]), CAST(%(xids)b AS text[]))
        AS found (image_id, version, xid)
    ORDER BY image_id
    ON CONFLICT (image_id, generation_id) DO UPDATE SET job_id = excluded.job_id, version = excluded.version,
        regions_xid = excluded.regions_xid, cropped_at = now()
    WHERE (cropping.job_id, cropping.version, cropping.regions_xid)
        IS DISTINCT FROM (excluded.job_id, excluded.version, excluded.regions_xid)
"""
_GO = f"""
    WITH gone AS (
        DELETE FROM crop WHERE generation_id = {{generation_id:d}} AND image_id = ANY(%(ids)b) AND NOT EXISTS (
            SELECT FROM unnest(CAST(%(of)b AS bigint[]), CAST(%(numbers)b AS smallint[])) AS kept (image_id, number)
            WHERE kept.image_id = crop.image_id AND kept.number = crop.number)
        RETURNING image_id * {REGIONS_EACH} + number AS row_id)
    INSERT INTO erasure (image_id, generation_id) SELECT row_id, {{generation_id:d}} FROM gone ORDER BY row_id
    ON CONFLICT (image_id, generation_id) DO UPDATE SET xid = pg_current_xact_id(), erased_at = now()
"""  # noqa: S608  (constants only)
_KEEP = """
    INSERT INTO crop (image_id, generation_id, number, tag, box, tags, scores, v)
    SELECT image_id, {generation_id:d}, number, tag, CAST(box AS smallint[]), CAST(tags AS text[]),
        CAST(scores AS smallint[]), v
    FROM unnest(CAST(%(of)b AS bigint[]), CAST(%(numbers)b AS smallint[]), CAST(%(names)b AS text[]),
        CAST(%(boxes)b AS text[]), CAST(%(tags)b AS text[]), CAST(%(scores)b AS text[]), CAST(%(packed)b AS bytea[]))
        AS found (image_id, number, tag, box, tags, scores, v)
    ORDER BY image_id, number
    ON CONFLICT (image_id, generation_id, number) DO UPDATE SET tag = excluded.tag, box = excluded.box,
        tags = excluded.tags, scores = excluded.scores, v = excluded.v, xid = pg_current_xact_id()
    WHERE (crop.tag, crop.box, crop.tags, crop.scores, crop.v)
        IS DISTINCT FROM (excluded.tag, excluded.box, excluded.tags, excluded.scores, excluded.v)
"""


def sought(session: Session, image_ids: Sequence[int]) -> dict[int, Sought]:
    """Return the regions of images that shall be cropped, by image. Images that were not located are left out."""
    # First what says whether they changed: if they do between the two statements, the image counts as changed.
    located = session.execute(
        text(
            """SELECT image_id, located_image.xid::text AS xid, localization.version
               FROM located_image JOIN localization USING (image_id, generation_id) WHERE image_id = ANY(:ids)"""
        ),
        {"ids": list(image_ids)},
    ).all()
    # Rules for tags change no stored data: what they hide has its vector as soon as they are cleared.
    views = regions.views(session, [row.image_id for row in located], with_masks=False, with_hidden=True)
    return {
        row.image_id: Sought(
            row.version, row.xid, tuple((region.tag, region.box) for region in views[row.image_id].regions[:MOST])
        )
        for row in located
        if row.image_id in views
    }


def write_crops(session: Session, rows: Sequence[CropsRow], provenance: Provenance) -> None:
    """Store vectors and tags of regions. They replace those of the same image under the same generation.

    Storing the same twice changes nothing. An image without regions is stored too. The index is told of rows that are
    no more. The caller has locked the images. Tables are written in the order cropping, failure, crop, erasure, and
    rows in order. This keeps transactions with common images from deadlocking.
    """
    if not rows:
        return
    ordered = sorted(rows, key=lambda row: row.image_id)
    crops = [(row.image_id, number, crop) for row in ordered for number, crop in enumerate(row.crops, start=1)]
    ids = [row.image_id for row in ordered]
    which = {"of": [image_id for image_id, _, _ in crops], "numbers": [number for _, number, _ in crops]}
    connection = driver_connection(session)
    connection.execute(
        _WRITE.format(generation_id=provenance.generation_id),
        {
            "job_id": provenance.job_id,
            "ids": ids,
            "versions": [row.version for row in ordered],
            "xids": [row.xid for row in ordered],
        },
        prepare=True,
    )
    connection.execute(_GO.format(generation_id=provenance.generation_id), {"ids": ids, **which}, prepare=True)
    connection.execute(
        _KEEP.format(generation_id=provenance.generation_id),
        {
            **which,
            "names": [crop.tag for _, _, crop in crops],
            # Arrays of arrays must have equal lengths, so each array is written in PostgreSQL's text form.
            "boxes": [region_lists.array(corners_of(crop.box)) for _, _, crop in crops],
            "tags": [region_lists.array(map(region_lists.quoted, crop.tags)) for _, _, crop in crops],
            "scores": [region_lists.array(crop.scores) for _, _, crop in crops],
            "packed": [crop.vector for _, _, crop in crops],
        },
        prepare=True,
    )


def erase(session: Session, image_ids: Sequence[int]) -> int:
    """Erase what is stored of the regions of images, and record it for the index. Return how many regions it was."""
    ids = {"ids": list(image_ids)}
    session.execute(text("DELETE FROM cropping WHERE image_id = ANY(:ids)"), ids)
    erased = session.execute(
        text(
            f"""
            WITH gone AS (
                DELETE FROM crop WHERE image_id = ANY(:ids)
                RETURNING image_id * {REGIONS_EACH} + number AS row_id, generation_id)
            INSERT INTO erasure (image_id, generation_id) SELECT row_id, generation_id FROM gone
            ON CONFLICT (image_id, generation_id) DO UPDATE SET xid = pg_current_xact_id(), erased_at = now()
            RETURNING 1
            """  # noqa: S608  (constants only)
        ),
        ids,
    )
    return len(erased.all())


def of_image(session: Session, generation_id: int, image_id: int) -> list[StoredCrop]:
    """Return the regions of an image that have a vector."""
    rows = session.execute(
        text(
            f"""SELECT image_id, number, tag, box, tags, scores FROM crop
                WHERE image_id = :id AND generation_id = {generation_id:d} ORDER BY number"""  # noqa: S608  (a number)
        ),
        {"id": image_id},
    )
    return [_stored(row) for row in rows]


def of_rows(session: Session, generation_id: int, row_ids: Sequence[int]) -> list[StoredCrop]:
    """Return the regions of rows of the index, in any order. Rows that are no more are left out."""
    # A join with a list of ids looks each id up in its own partition.
    rows = session.execute(
        text(
            f"""SELECT crop.image_id, crop.number, tag, box, tags, scores
                FROM unnest(CAST(:images AS bigint[]), CAST(:numbers AS smallint[])) AS wanted (image_id, number)
                JOIN crop ON crop.image_id = wanted.image_id AND crop.number = wanted.number
                    AND crop.generation_id = {generation_id:d}"""  # noqa: S608  (a number)
        ),
        {
            "images": [image_of(row_id) for row_id in row_ids],
            "numbers": [row_id % REGIONS_EACH for row_id in row_ids],
        },
    )
    return [_stored(row) for row in rows]


def _stored(row: Row[Any]) -> StoredCrop:
    left, top, right, bottom = row.box
    tags = [(name, score / SCORE_SCALE) for name, score in zip(row.tags, row.scores, strict=True)]
    return StoredCrop(row_id_of(row.image_id, row.number), row.tag, (left, top, right, bottom), tags)


def row_id_of(image_id: int, number: int) -> int:
    """Return the id of a region's row in the index. ``number``: as it was when the region was cropped."""
    return image_id * REGIONS_EACH + number


def image_of(row_id: int) -> int:
    """Return the image of a row of the index."""
    return row_id // REGIONS_EACH


def vector_of(session: Session, generation_id: int, image_id: int, number: int) -> tuple[int, NDArray[np.float32]]:
    """Return the row and the vector (D,) of a region of an image. ``number``: as people see it now.

    Raises:
        NotFoundError: there is no such region, or it has no vector.
    """
    view = regions.views(session, [image_id], with_masks=False).get(image_id)
    seen = [] if view is None else view.regions
    region = next((region for region in seen if region.number == number), None)
    if region is None:
        there = f"its regions are {seen[0].number} to {seen[-1].number}" if seen else "it has no regions"
        raise NotFoundError(f"there is no region {number} in image {image_id}; {there}")
    for crop in of_image(session, generation_id, image_id):
        if crop.is_of(region):
            packed: bytes = session.execute(
                text("SELECT v FROM crop WHERE image_id = :image AND generation_id = :generation AND number = :number"),
                {"image": image_id, "generation": generation_id, "number": crop.row_id % REGIONS_EACH},
            ).scalar_one()
            vector: NDArray[np.float32] = unpack_vectors(packed, len(packed) // CODE.itemsize)[0]
            return crop.row_id, vector
    raise NotFoundError(f"region {number} of image {image_id} has no vector yet: run `ramq crops`")


def numbers_with_vectors(session: Session, image_id: int, seen: Sequence[RegionView]) -> set[int]:
    """Return the numbers of those regions of an image, as people see them, that search can compare with others."""
    generation = generations.default(session, STAGE)
    if generation is None or not seen:
        return set()
    stored = {(crop.tag, crop.corners) for crop in of_image(session, generation.id, image_id)}
    return {region.number for region in seen if (region.tag, corners_of(region.box)) in stored}

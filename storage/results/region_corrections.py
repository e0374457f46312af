"""People's corrections of regions, by tag and place. They are kept apart from what locators found, and survive it."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy import text as sql

from storage.errors import NotFoundError, UsageError
from storage.results import regions
from storage.results.region_boxes import box_of, corners_of, is_same
from storage.results.region_views import RegionCorrectionView
from storage.tables import RegionCorrection
from storage.texts import is_storable

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.results.region_views import Box

MAX_CHARACTERS = 200
"""Of the tag of a region that a person draws."""


def correct(session: Session, image_id: int, tag: str, box: Box, said_by: str, *, is_there: bool) -> int:
    """Store that a tag is at a place of an image, or that it is not. It replaces earlier corrections of tag and place.

    It holds for every generation, and for what is located later. It is kept too if the image was not located yet.

    Args:
        session: a transaction.
        image_id: the image.
        tag: the name of the tag. Case does not matter.
        box: left, top, right, bottom as fractions 0..1 of the upright picture.
        said_by: the name of the author's token, or ``local``.
        is_there: True: there is one region of the tag, just here; False: there is none at about this place.

    Returns:
        The id of the correction.

    Raises:
        NotFoundError: there is no such image.
        UsageError: not a box in the picture, or a tag that is empty, too long, or not storable.
    """
    tag = " ".join(tag.split()) if is_storable(tag) else ""
    if not tag or len(tag) > MAX_CHARACTERS:
        raise UsageError(f"a region needs the name of a tag, of at most {MAX_CHARACTERS} characters")
    if len(box) != 4 or not all(isfinite(number) and 0 <= number <= 1 for number in box):
        raise UsageError("a box has four numbers from 0 to 1: left, top, right and bottom, as fractions of the picture")
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        raise UsageError("a box begins at its left and top: left must be less than right, and top less than bottom")
    corners = corners_of((left, top, right, bottom))
    regions.lock(session, [image_id])
    earlier = regions.changes(session, [image_id]).get(image_id, ())
    replaced = [said.id for said in earlier if is_same(said.tag, said.box, tag, corners)]
    session.execute(sql("DELETE FROM region_correction WHERE id = ANY(:ids)"), {"ids": replaced})
    said = RegionCorrection(image_id=image_id, tag=tag, box=list(corners), is_there=is_there, said_by=said_by)
    session.add(said)
    session.flush()
    regions.count_again(session, [image_id])
    return said.id


def withdraw(session: Session, correction_id: int) -> None:
    """Take a correction back: what was found there applies again.

    Raises:
        NotFoundError: there is no such correction.
    """
    of = sql("SELECT image_id FROM region_correction WHERE id = :id")
    image_id = session.scalar(of, {"id": correction_id}) if correction_id < 2**63 else None
    if image_id is not None:
        regions.lock(session, [image_id])
        deleted = sql("DELETE FROM region_correction WHERE id = :id RETURNING image_id")
        image_id = session.scalar(deleted, {"id": correction_id})
    if image_id is None:
        raise NotFoundError(f"there is no correction {correction_id} of a region")
    regions.count_again(session, [image_id])


def of_image(session: Session, image_id: int) -> list[RegionCorrectionView]:
    """Return the corrections of an image, oldest first."""
    rows = session.scalars(
        select(RegionCorrection).where(RegionCorrection.image_id == image_id).order_by(RegionCorrection.id)
    )
    return [
        RegionCorrectionView(
            row.id,
            row.tag,
            box_of((row.box[0], row.box[1], row.box[2], row.box[3])),
            row.is_there,
            row.said_by,
            row.said_at,
        )
        for row in rows
    ]

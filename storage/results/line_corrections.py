"""People's corrections of the text in images, by place. They are kept apart from what readers found, and survive it."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy import text as sql

from storage.errors import NotFoundError, UsageError
from storage.results import images, readings
from storage.results.reading_lines import corners_of, lies_in, polygon_of
from storage.results.reading_views import LineCorrectionView
from storage.tables import LineCorrection
from storage.words import clean

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.results.reading_views import Polygon

MAX_CHARACTERS = 1_000
"""Of a line that a person writes."""

_CORNERS = 4


def correct(session: Session, image_id: int, polygon: Polygon, text: str | None, said_by: str) -> int:
    """Store what stands in a place of an image. It replaces earlier corrections whose middle lies in that place.

    It holds for every generation, and for what is read later. It is kept too if the image was not read yet.

    Args:
        session: a transaction.
        image_id: the image.
        polygon: four corners as fractions 0..1 of the upright picture, clockwise from the text's own top left.
        text: the right text; None: there is no text.
        said_by: the name of the author's token, or ``local``.

    Returns:
        The id of the correction.

    Raises:
        NotFoundError: there is no such image.
        UsageError: not four corners in the picture, or an empty or too long text.
    """
    corners = _checked(polygon)
    if text is not None:
        text = " ".join(clean(text).split())
        if not text:
            raise UsageError("the text of a line is empty; to say that there is no text, reject the line")
        if len(text) > MAX_CHARACTERS:
            raise UsageError(f"a line has at most {MAX_CHARACTERS:,} characters")
    images.lock(session, [image_id])
    earlier = readings.changes(session, [image_id]).get(image_id, ())
    replaced = [said.id for said in earlier if lies_in(said.corners, corners)]
    session.execute(sql("DELETE FROM line_correction WHERE id = ANY(:ids)"), {"ids": replaced})
    said = LineCorrection(image_id=image_id, corners=list(corners), text=text, said_by=said_by)
    session.add(said)
    session.flush()
    readings.note_changes(session, image_id)
    return said.id


def withdraw(session: Session, correction_id: int) -> None:
    """Take a correction back: what was read there applies again.

    Raises:
        NotFoundError: there is no such correction.
    """
    of = sql("SELECT image_id FROM line_correction WHERE id = :id")
    image_id = session.scalar(of, {"id": correction_id}) if correction_id < 2**63 else None
    if image_id is not None:
        images.lock(session, [image_id])
        deleted = sql("DELETE FROM line_correction WHERE id = :id RETURNING image_id")
        image_id = session.scalar(deleted, {"id": correction_id})
    if image_id is None:
        raise NotFoundError(f"there is no correction {correction_id} of a line")
    readings.note_changes(session, image_id)


def of_image(session: Session, image_id: int) -> list[LineCorrectionView]:
    """Return the corrections of an image, oldest first."""
    rows = session.scalars(
        select(LineCorrection).where(LineCorrection.image_id == image_id).order_by(LineCorrection.id)
    )
    return [LineCorrectionView(row.id, polygon_of(row.corners), row.text, row.said_by, row.said_at) for row in rows]


def _checked(polygon: Polygon) -> tuple[int, ...]:
    numbers = [number for corner in polygon for number in corner]
    if len(polygon) != _CORNERS or len(numbers) != 2 * _CORNERS:
        raise UsageError("a line has four corners, each with x and y")
    if not all(isfinite(number) and 0 <= number <= 1 for number in numbers):
        raise UsageError("the corners of a line are fractions of the picture, from 0 to 1")
    return corners_of(polygon)

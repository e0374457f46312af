"""How much room the rows of images take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

LEAST_IMAGES = 10_000
"""Below this, tables and indexes that are nearly empty would count for more than rows."""


def database_bytes_per_image(session: Session) -> float | None:
    """Return the size of the whole database by the number of its images; None if there are too few to tell."""
    images = session.scalar(text("SELECT sum(images)::bigint FROM archive")) or 0
    if images < LEAST_IMAGES:
        return None
    size: int = session.scalar(text("SELECT pg_database_size(current_database())")) or 0
    return size / images

"""How the pictures of images were read, where that was not as a whole: cut short, in tiles, one page of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.database import driver_connection

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy.orm import Session

_WRITE = """
    INSERT INTO opening (image_id, job_id, version, share, tiles, pages)
    SELECT image_id, %(job_id)s, version, share, tiles, pages
    FROM unnest(CAST(%(ids)s AS bigint[]), CAST(%(versions)s AS text[]), CAST(%(shares)s AS real[]),
        CAST(%(tiles)s AS smallint[]), CAST(%(pages)s AS int[])) AS read (image_id, version, share, tiles, pages)
    ORDER BY image_id
    ON CONFLICT (image_id) DO UPDATE SET job_id = excluded.job_id, version = excluded.version, share = excluded.share,
        tiles = excluded.tiles, pages = excluded.pages
    WHERE (opening.job_id, opening.version, opening.share, opening.tiles, opening.pages)
        IS DISTINCT FROM (excluded.job_id, excluded.version, excluded.share, excluded.tiles, excluded.pages)
"""
_COPY = text(
    """
    INSERT INTO opening (image_id, job_id, version, share, tiles, pages)
    SELECT same.image_id, :job_id, image.version, share, tiles, pages
    FROM unnest(CAST(:ids AS bigint[]), CAST(:others AS bigint[])) AS same (image_id, other_id)
    JOIN opening ON opening.image_id = other_id JOIN image ON image.id = same.image_id
    ORDER BY same.image_id
    ON CONFLICT (image_id) DO UPDATE SET job_id = excluded.job_id, version = excluded.version, share = excluded.share,
        tiles = excluded.tiles, pages = excluded.pages
    """
)


@dataclass(frozen=True, slots=True)
class OpeningView:
    """How the picture of an image was read; None: in this, as usual.

    Attributes:
        share: of its rows that could be read, 0..1; 1: all of them, but pages of its file behind ``pages`` cannot be
            read; None: its file is whole.
        tiles: in how many parts it was recognised, because it is long.
        pages: of a document, of which one was read. 1 is stored if a job counted them: ``views`` has None for it.
    """

    share: float | None = None
    tiles: int | None = None
    pages: int | None = None


USUAL = OpeningView()


def write(session: Session, read: Mapping[int, tuple[str, OpeningView]], job_id: int) -> None:
    """Store how pictures were read that were recognised now: (version, how) by image, locked by the caller."""
    connection = driver_connection(session)
    odd = {image_id: read[image_id] for image_id in sorted(read) if read[image_id][1] != USUAL}
    usual = [image_id for image_id in read if image_id not in odd]
    if usual:  # a former version of the file may have been cut short
        connection.execute("DELETE FROM opening WHERE image_id = ANY(%(ids)s)", {"ids": usual}, prepare=True)
    if odd:
        values = {
            "job_id": job_id,
            "ids": list(odd),
            "versions": [version for version, _ in odd.values()],
            "shares": [how.share for _, how in odd.values()],
            "tiles": [how.tiles for _, how in odd.values()],
            "pages": [how.pages for _, how in odd.values()],
        }
        connection.execute(_WRITE, values)


def copy(session: Session, others: Mapping[int, int], job_id: int) -> None:
    """Store of images how the pictures of ``others`` were read, by id, whose results they take over."""
    if not others:
        return
    new = [image_id for image_id, other_id in others.items() if image_id != other_id]
    session.execute(text("DELETE FROM opening WHERE image_id = ANY(:ids)"), {"ids": new})
    values = {"ids": sorted(others), "others": [others[image_id] for image_id in sorted(others)], "job_id": job_id}
    session.execute(_COPY, values)


def views(session: Session, image_ids: Collection[int]) -> dict[int, OpeningView]:
    """Return how the pictures of images were read, by id. Those read as a whole are left out."""
    rows = session.execute(
        text("SELECT image_id, share, tiles, nullif(pages, 1) AS pages FROM opening WHERE image_id = ANY(:ids)"),
        {"ids": list(image_ids)},
    )
    return {row.image_id: OpeningView(row.share, row.tiles, row.pages) for row in rows}


def truncated(session: Session) -> Sequence[int]:
    """Return the images whose file is cut short and that have results: ids, ascending."""
    return session.scalars(text("SELECT image_id FROM opening WHERE share IS NOT NULL ORDER BY image_id")).all()


def erase(session: Session, image_ids: Sequence[int]) -> None:
    """Erase how images were read."""
    session.execute(text("DELETE FROM opening WHERE image_id = ANY(:ids)"), {"ids": list(image_ids)})

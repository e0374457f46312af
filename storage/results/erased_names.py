"""Which images a deletion named, to be told outside the database: by number, and by a hash of the name.

A restored backup has images again that were deleted after it was taken. Their numbers are the same. A number that was
given to another image since the restore is told by the hash, which is of the archive's address and the key, with salt.
Names themselves may have to be forgotten, so they are kept nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

HASH_BYTES = 16

_NAMED = f"""
    SELECT image.id, encode(substring(sha256(convert_to(:salt || archive.uri || chr(10) || image.key, 'UTF8'))
        FOR {HASH_BYTES}), 'hex') AS name
    FROM image JOIN archive ON archive.id = image.archive_id
"""  # noqa: S608  (a constant)


def of_deletion(session: Session, deletion_id: int, salt: str) -> list[tuple[int, str]]:
    """Return the images of a deletion that exist, ascending, each with the hash of its name."""
    rows = session.execute(
        text(
            f"""{_NAMED} JOIN (
                    SELECT generate_series(lower(stretch), upper(stretch) - 1) AS id
                    FROM deletion_part, unnest(image_ids) AS stretch WHERE deletion_id = :id
                ) AS part ON image.id = part.id ORDER BY image.id"""  # noqa: S608  (constants)
        ),
        {"salt": salt, "id": deletion_id},
    )
    return [(row.id, row.name) for row in rows]


def of_images(session: Session, image_ids: Sequence[int], salt: str) -> dict[int, str]:
    """Return those of these images that exist, each with the hash of its name."""
    rows = session.execute(text(f"{_NAMED} WHERE image.id = ANY(:ids)"), {"salt": salt, "ids": list(image_ids)})
    return {row.id: row.name for row in rows}


def known(session: Session) -> set[tuple[int, datetime]]:
    """Return the deletions of this database: the number of each, and when it began."""
    return {(row.id, row.begun_at) for row in session.execute(text("SELECT id, begun_at FROM deletion"))}


def existing(session: Session, image_ids: Sequence[int]) -> list[int]:
    """Return those of these images that exist, ascending."""
    return list(
        session.scalars(text("SELECT id FROM image WHERE id = ANY(:ids) ORDER BY id"), {"ids": list(image_ids)})
    )

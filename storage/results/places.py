"""In which archives and folders images are, from PostgreSQL: for images whose keys are in an index elsewhere."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

_OF_IMAGES = "FROM image WHERE image.id = ANY(CAST(:ids AS bigint[]))"
_ENDS = f'SELECT min(key COLLATE "C"), max(key COLLATE "C") {_OF_IMAGES}'

# What is below the base up to the next slash; empty: the image is beside the folders. Lengths are in characters.
_FOLDERS = f"""
    SELECT CASE WHEN strpos(substr(key, :length + 1), '/') > 0
        THEN substr(key, 1, :length + strpos(substr(key, :length + 1), '/')) ELSE '' END AS folder, count(*) AS n
    {_OF_IMAGES} GROUP BY 1 LIMIT :most
"""


def by_archive(session: Session, image_ids: NDArray[np.int64]) -> dict[int, int]:
    """Return how many of these images are in each archive, by its id."""
    rows = session.execute(
        text(f"SELECT archive_id, count(*) AS n {_OF_IMAGES} GROUP BY archive_id"),
        {"ids": image_ids.tolist()},
    )
    return {row.archive_id: row.n for row in rows}


def ends(session: Session, image_ids: NDArray[np.int64]) -> tuple[str, str] | None:
    """Return the first and the last of the keys of these images, by their bytes; None: there are none."""
    first, last = session.execute(text(_ENDS), {"ids": image_ids.tolist()}).one()
    return None if first is None else (first, last)


def folders(session: Session, image_ids: NDArray[np.int64], base: str, most: int) -> Counter[bytes] | None:
    """Return how many of these images are in each folder next below a folder that all are in.

    Args:
        session: a transaction.
        image_ids: the images.
        base: the folder, with its slash; empty: the whole of all archives.
        most: folders, and images beside them.

    Returns:
        The numbers by folder, as prefixes of keys; None: there are more than ``most``.
    """
    values = {"ids": image_ids.tolist(), "length": len(base), "most": most + 1}
    counts = Counter({row.folder.encode(): row.n for row in session.execute(text(_FOLDERS), values)})
    beside = counts.pop(b"", 0)
    return None if len(counts) + beside > most else counts

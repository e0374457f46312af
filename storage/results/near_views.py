"""Groups of near copies for people: pages of them, and rows for files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage.results.copies import SHOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

_ROWS_AT_ONCE = 5_000

_GROUPED = """
    SELECT near_copy.group_id, count(*) AS n FROM near_copy JOIN image ON image.id = near_copy.image_id
    WHERE image.missing_since IS NULL AND near_copy.distance <= :distance
      AND (CAST(:archive_id AS int) IS NULL OR image.archive_id = :archive_id)
    GROUP BY near_copy.group_id HAVING count(*) > 1
"""

# The largest one first, which the others are compared with: it may be another one than the middle of the group, if
# that is missing or in another archive.
_IMAGES = """
    SELECT near_copy.image_id, archive.uri, image.key, image.size, image.modified_at, record.width, record.height,
        near_copy.distance, near_copy.cosine, content.hash, content.pixels,
        first_value(content.hash) OVER largest AS first_hash, first_value(content.pixels) OVER largest AS first_pixels,
        row_number() OVER largest AS place
    FROM near_copy JOIN image ON image.id = near_copy.image_id JOIN archive ON archive.id = image.archive_id
    LEFT JOIN content ON content.image_id = image.id
    LEFT JOIN metadata ON metadata.image_id = image.id
    LEFT JOIN record ON record.image_id = image.id AND record.generation_id = {generation_id:d}
    WHERE {of_group} AND image.missing_since IS NULL AND near_copy.distance <= :distance
      AND (CAST(:archive_id AS int) IS NULL OR image.archive_id = :archive_id)
    WINDOW largest AS (PARTITION BY near_copy.group_id
        ORDER BY record.width::bigint * record.height DESC NULLS LAST, image.size DESC, metadata.taken_at,
            image.key, archive.uri)
"""

_PAGE = f"""
    SELECT found.group_id, found.n, one.*
    FROM (
        SELECT group_id, n FROM ({_GROUPED}) AS counted
        WHERE CAST(:count AS bigint) IS NULL OR n < :count OR (n = :count AND group_id > :first)
        ORDER BY n DESC, group_id LIMIT :limit
    ) AS found CROSS JOIN LATERAL ({{images}} ORDER BY place LIMIT :shown) AS one
    ORDER BY found.n DESC, found.group_id, one.place
"""  # noqa: S608  (constants)

_ROWS = f"""
    SELECT counted.group_id, counted.n, one.*
    FROM ({_GROUPED}) AS counted CROSS JOIN LATERAL ({{images}}) AS one
    WHERE CAST(:ids AS bigint[]) IS NULL OR one.image_id = ANY(:ids)
    ORDER BY counted.n DESC, counted.group_id, one.place
"""  # noqa: S608  (constants)


@dataclass(frozen=True, slots=True)
class NearCopyView:
    """An image of a group.

    Attributes:
        image_id, archive, key: which one.
        width, height: of the upright picture, in pixels; None: not recorded by the serving generation any more.
        size_bytes: of the file.
        modified_at: when the file was last changed.
        distance: how many bits of its hash differ from that of the picture around which the group is, 0 to 64.
        cosine: that of their vectors.
        same: what it shares with the largest image of the group: ``bytes``, ``pixels`` (the files differ, and show the
            same) or ``near``. The largest itself: ``bytes``.
        is_largest: whether no image of the group has more pixels; of equally many, the largest file, which was
            compressed least; then the one that was taken first; then the one whose key is first.
    """

    image_id: int
    archive: str
    key: str
    width: int | None
    height: int | None
    size_bytes: int
    modified_at: datetime | None
    distance: int
    cosine: float
    same: str
    is_largest: bool


@dataclass(frozen=True, slots=True)
class NearGroup:
    """Near copies of one picture.

    Attributes:
        group_id: the number of the image around which the group is.
        count: how many images.
        images: the first ``SHOWN`` of them, the largest first.
    """

    group_id: int
    count: int
    images: list[NearCopyView]


@dataclass(frozen=True, slots=True)
class NearRow:
    """One image of a group, for files."""

    group: int
    count: int
    image_id: int
    archive: str
    key: str
    width: int | None
    height: int | None
    size_bytes: int
    modified_at: datetime | None
    distance: int
    cosine: float
    same: str
    is_largest: bool


def groups(
    session: Session,
    *,
    generation_id: int,
    archive_id: int | None,
    distance: int,
    after: tuple[int, int] | None,
    limit: int,
) -> list[NearGroup]:
    """Return groups of near copies, those with the most images first.

    Args:
        session: a transaction.
        generation_id: who recorded how large the pictures are.
        archive_id: count only the images of this archive; None: of all.
        distance: count only images with at most this distance.
        after: the count and the number of the last group of the page before.
        limit: groups at most.
    """
    values = {
        "archive_id": archive_id,
        "distance": distance,
        "count": None if after is None else after[0],
        "first": None if after is None else after[1],
        "limit": limit,
        "shown": SHOWN,
    }
    images = _IMAGES.format(generation_id=generation_id, of_group="near_copy.group_id = found.group_id")
    found: dict[int, NearGroup] = {}
    for row in session.execute(text(_PAGE.format(images=images)), values):
        group = found.setdefault(row.group_id, NearGroup(row.group_id, row.n, []))
        group.images.append(NearCopyView(**_of(row)))
    return list(found.values())


def rows(
    session: Session,
    *,
    generation_id: int,
    archive_id: int | None,
    distance: int,
    image_ids: Sequence[int] | None = None,
) -> Iterator[NearRow]:
    """Yield every image of every group, group by group. Must be the first statement in its transaction.

    ``image_ids``: only these, as they are in the whole list; None: all.
    """
    session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '1h'"))
    images = _IMAGES.format(generation_id=generation_id, of_group="near_copy.group_id = counted.group_id")
    found: Any = session.execute(
        text(_ROWS.format(images=images)),
        {
            "archive_id": archive_id,
            "distance": distance,
            "ids": None if image_ids is None else sorted(image_ids),
        },
        execution_options={"yield_per": _ROWS_AT_ONCE},
    )
    for row in found:
        yield NearRow(group=row.group_id, count=row.n, **_of(row))


def _of(row: Any) -> dict[str, Any]:
    """Return the fields of ``NearCopyView``."""
    same = "near"
    if row.hash is not None and row.hash == row.first_hash:
        same = "bytes"
    elif row.pixels is not None and row.pixels == row.first_pixels:
        same = "pixels"
    return {
        "image_id": row.image_id,
        "archive": row.uri,
        "key": row.key,
        "width": row.width,
        "height": row.height,
        "size_bytes": row.size,
        "modified_at": row.modified_at,
        "distance": row.distance,
        "cosine": round(row.cosine, 4),
        "same": same,
        "is_largest": row.place == 1,
    }

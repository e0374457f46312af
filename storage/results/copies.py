"""Groups of images with the same bytes.

Images whose originals are missing are in no group: nobody can delete them to save space. Nothing is kept of groups:
they follow from the hashes, in the order of whose index PostgreSQL reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import text

from storage.database import driver_connection
from storage.remembered import remembered
from storage.results.moments import numbers_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

MOST_COUNTED = 10_000
"""A group is counted up to so many images where a hit says how many there are."""

SHOWN = 12
"""Images of a group that a list of groups names."""

_ROWS_AT_ONCE = 5_000


def there(table: str) -> str:
    """Return the condition that the original of a row's image is there."""
    return f"NOT EXISTS (SELECT FROM image AS gone WHERE gone.id = {table}.image_id AND gone.missing_since IS NOT NULL)"


def count_alike(table: str, column: str) -> str:
    """Return a subquery with ``{image_id}``: how many images have the same in a column, without missing originals."""
    return f"""(
    SELECT count(*) FROM (
        SELECT FROM {table} AS own JOIN {table} USING ({column}) WHERE own.image_id = {{image_id}} AND {there(table)}
        LIMIT {MOST_COUNTED}
    ) AS same)"""  # noqa: S608  (constants)


_THERE = there("content")

COUNT_OF = count_alike("content", "hash")
"""How many images have the bytes of an image, itself included if its original is there."""

_ALL = f"""
    WITH counted AS (
        SELECT image_id, count(*) OVER same AS n, min(image_id) OVER same AS first
        FROM content WHERE {_THERE} WINDOW same AS (PARTITION BY hash)
    )
    SELECT array_send(array_agg(image_id ORDER BY image_id)), array_send(array_agg(first ORDER BY image_id))
    FROM counted WHERE n > 1
"""  # noqa: S608  (constants)

_GROUPED = f"""
    SELECT content.hash, count(*) AS n, min(content.image_id) AS first FROM content {{of_archive}} WHERE {_THERE}
    GROUP BY content.hash HAVING count(*) > 1
"""  # noqa: S608  (constants)
_OF_ARCHIVE = "JOIN image ON image.id = content.image_id AND image.archive_id = :archive_id"

_PAGE = """
    SELECT found.hash, found.n, every.size, every.ids, every.keys, every.uris
    FROM (
        SELECT hash, n, first FROM ({grouped}) AS counted
        WHERE CAST(:count AS bigint) IS NULL OR n < :count OR (n = :count AND first > :first)
        ORDER BY n DESC, first LIMIT :limit
    ) AS found CROSS JOIN LATERAL (
        SELECT max(size) AS size, array_agg(id) AS ids, array_agg(key) AS keys, array_agg(uri) AS uris FROM (
            SELECT image.id, image.key, image.size, archive.uri FROM content
            JOIN image ON image.id = content.image_id JOIN archive ON archive.id = image.archive_id
            WHERE content.hash = found.hash AND image.missing_since IS NULL
              AND (CAST(:archive_id AS int) IS NULL OR image.archive_id = :archive_id)
            ORDER BY content.image_id LIMIT :shown
        ) AS shown
    ) AS every ORDER BY found.n DESC, found.first
"""

_ROWS = """
    SELECT counted.hash, counted.n, image.id, archive.uri, image.key, image.size, image.modified_at
    FROM ({grouped}) AS counted JOIN content USING (hash) JOIN image ON image.id = content.image_id
    JOIN archive ON archive.id = image.archive_id
    WHERE image.missing_since IS NULL AND (CAST(:archive_id AS int) IS NULL OR image.archive_id = :archive_id)
    ORDER BY counted.n DESC, counted.first, image.id
"""


@dataclass(frozen=True, slots=True)
class Copies:
    """The images that have a copy: ``ids`` (N,) ascending, and for each in ``groups`` (N,) the first of its group.

    The first one has the lowest id, or of near copies the most pixels.
    """

    ids: NDArray[np.int64]
    groups: NDArray[np.int64]

    def hidden(self, found: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of these images, ascending, of whose group another one is shown: the first, or the lowest id."""
        at = np.searchsorted(self.ids, found)
        is_known = at < len(self.ids)
        is_known[is_known] = self.ids[at[is_known]] == found[is_known]
        copies, groups = found[is_known], self.groups[at[is_known]]
        order = np.lexsort((copies, copies != groups, groups))
        _, firsts = np.unique(groups[order], return_index=True)
        return np.sort(np.delete(copies[order], firsts))


@dataclass(frozen=True, slots=True)
class CopyView:
    """An image of a group."""

    image_id: int
    archive: str
    key: str


@dataclass(frozen=True, slots=True)
class CopyGroup:
    """Images with the same bytes.

    Attributes:
        hash: the beginning of the SHA-256 of their bytes, in hexadecimal.
        count: how many there are.
        size_bytes: of each.
        images: the first ``SHOWN`` of them, by id.
    """

    hash: str
    count: int
    size_bytes: int
    images: list[CopyView]


@dataclass(frozen=True, slots=True)
class CopyRow:
    """One image of a group, for files."""

    group: str
    count: int
    image_id: int
    archive: str
    key: str
    size_bytes: int
    modified_at: datetime | None


def every(session: Session) -> Copies:
    """Return all images that have a copy."""

    def read() -> Copies:
        row = driver_connection(session).execute(_ALL, binary=True).fetchone()
        if row is None or row[0] is None:
            return Copies(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
        return Copies(numbers_of(row[0], ">i8"), numbers_of(row[1], ">i8"))

    return remembered(session, "images with a copy", read)


def count(session: Session, image_id: int) -> int:
    """Return how many images have the bytes of this one, itself included; 1: no other. Up to ``MOST_COUNTED``."""
    return max(1, int(session.scalar(text(f"SELECT {COUNT_OF.format(image_id=':id')}"), {"id": image_id}) or 0))


def same_as(session: Session, image_id: int) -> NDArray[np.int64]:
    """Return the images with the bytes of this one, itself included: ids, ascending. Empty if they are not known."""
    found = session.scalars(
        text(
            f"""SELECT content.image_id FROM content AS own JOIN content USING (hash)
                WHERE own.image_id = :id AND {_THERE} ORDER BY 1"""  # noqa: S608  (constants)
        ),
        {"id": image_id},
    )
    return np.array(found.all(), dtype=np.int64)


def groups(session: Session, *, archive_id: int | None, after: tuple[int, int] | None, limit: int) -> list[CopyGroup]:
    """Return groups, those with the most images first.

    Args:
        session: a transaction.
        archive_id: count only the images of this archive; None: of all.
        after: the count and the first image of the last group of the page before.
        limit: groups at most.
    """
    values = {
        "archive_id": archive_id,
        "count": None if after is None else after[0],
        "first": None if after is None else after[1],
        "limit": limit,
        "shown": SHOWN,
    }
    rows = session.execute(text(_PAGE.format(grouped=_grouped(archive_id))), values)
    return [
        CopyGroup(
            row.hash.hex(),
            row.n,
            row.size,
            [CopyView(*image) for image in zip(row.ids, row.uris, row.keys, strict=True)],
        )
        for row in rows
    ]


def rows(session: Session, archive_id: int | None) -> Iterator[CopyRow]:
    """Yield every image that has a copy, group by group. Must be the first statement in its transaction."""
    session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '1h'"))
    found: Any = session.execute(
        text(_ROWS.format(grouped=_grouped(archive_id))),
        {"archive_id": archive_id},
        execution_options={"yield_per": _ROWS_AT_ONCE},
    )
    for row in found:
        yield CopyRow(row.hash.hex(), row.n, row.id, row.uri, row.key, row.size, row.modified_at)


def _grouped(archive_id: int | None) -> str:
    return _GROUPED.format(of_archive="" if archive_id is None else _OF_ARCHIVE)

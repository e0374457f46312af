"""The pictures of a version, with their captions and splits: written in blocks, read by ranges of image ids."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage.database import driver_connection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session

ORIGINS = ("given", "generated")
"""Of captions: from people or their files, or from a model."""

_BLOCK = 1000


@dataclass(frozen=True, slots=True)
class Item:
    """A picture of a version.

    Attributes:
        image_id: the image.
        version: of its bytes.
        is_validation: its split: validation, or training.
        group_id: pictures with the same one are the same, or nearly; None: not compared yet.
        captions: its captions.
        origins: where each of them is from, as in ``ORIGINS``.
    """

    image_id: int
    version: str
    is_validation: bool = False
    group_id: int | None = None
    captions: Sequence[str] = ()
    origins: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Range:
    """Images ``first`` to ``last`` of a version, and how many of its pictures these are."""

    first: int
    last: int
    count: int


def add(session: Session, version_id: int, items: Sequence[Item]) -> None:
    """Add pictures to a version. One that is there already gets the captions that it lacks, and stays as it is else.

    Images that were deleted meanwhile are left out. The others cannot be deleted before the transaction ends.
    """
    if not items:
        return
    ordered = sorted(items, key=lambda item: item.image_id)
    driver_connection(session).execute(
        """
        WITH given AS (
            SELECT given.* FROM unnest(CAST(%(ids)s AS bigint[]), CAST(%(versions)s AS text[]),
                CAST(%(validation)s AS boolean[]), CAST(%(groups)s AS bigint[]), CAST(%(captions)s AS jsonb[]),
                CAST(%(origins)s AS jsonb[])) AS given (id, version, is_validation, group_id, captions, origins)
            JOIN image USING (id) ORDER BY id FOR KEY SHARE OF image
        )
        INSERT INTO dataset_item AS item (image_id, version_id, version, is_validation, group_id, captions, origins)
        SELECT id, %(version_id)s, version, is_validation, group_id,
            ARRAY(SELECT jsonb_array_elements_text(captions)), ARRAY(SELECT jsonb_array_elements_text(origins))
        FROM given
        ON CONFLICT (image_id, version_id) DO UPDATE SET
            captions = item.captions || ARRAY(
                SELECT caption FROM unnest(excluded.captions) WITH ORDINALITY AS new (caption, n)
                WHERE caption <> ALL (item.captions) ORDER BY n),
            origins = item.origins || ARRAY(
                SELECT origin FROM unnest(excluded.captions, excluded.origins)
                    WITH ORDINALITY AS new (caption, origin, n)
                WHERE caption <> ALL (item.captions) ORDER BY n)
        """,
        {
            "version_id": version_id,
            "ids": [item.image_id for item in ordered],
            "versions": [item.version for item in ordered],
            "validation": [item.is_validation for item in ordered],
            "groups": [item.group_id for item in ordered],
            "captions": [_json(item.captions) for item in ordered],
            "origins": [_json(item.origins) for item in ordered],
        },
    )


def set_captions(session: Session, version_id: int, items: Sequence[Item]) -> None:
    """Replace the captions of pictures of a version."""
    driver_connection(session).execute(
        """
        UPDATE dataset_item AS item SET captions = ARRAY(SELECT jsonb_array_elements_text(given.captions)),
            origins = ARRAY(SELECT jsonb_array_elements_text(given.origins))
        FROM unnest(CAST(%(ids)s AS bigint[]), CAST(%(captions)s AS jsonb[]), CAST(%(origins)s AS jsonb[]))
            AS given (id, captions, origins)
        WHERE item.version_id = %(version_id)s AND item.image_id = given.id
        """,
        {
            "version_id": version_id,
            "ids": [item.image_id for item in items],
            "captions": [_json(item.captions) for item in items],
            "origins": [_json(item.origins) for item in items],
        },
    )


def set_splits(
    session: Session, version_id: int, image_ids: Sequence[int], groups: Sequence[int], validation: Sequence[bool]
) -> None:
    """Say of pictures of a version in which group and in which split they are."""
    driver_connection(session).execute(
        """
        UPDATE dataset_item AS item SET group_id = given.group_id, is_validation = given.is_validation
        FROM unnest(CAST(%(ids)b AS bigint[]), CAST(%(groups)b AS bigint[]), CAST(%(validation)b AS boolean[]))
            AS given (id, group_id, is_validation)
        WHERE item.version_id = %(version_id)s AND item.image_id = given.id
        """,
        {
            "version_id": version_id,
            "ids": list(image_ids),
            "groups": list(groups),
            "validation": list(validation),
        },
    )


def copy(session: Session, parent_id: int, version_id: int, first: int, last: int) -> int:
    """Copy pictures of a version to another one, those with ids from ``first`` to ``last``. Return how many.

    They cannot be deleted before the transaction ends.
    """
    copied = session.execute(
        text(
            f"""
            INSERT INTO dataset_item (image_id, version_id, version, is_validation, group_id, captions, origins)
            SELECT image_id, {version_id:d}, item.version, is_validation, group_id, captions, origins
            FROM dataset_item AS item JOIN image ON image.id = item.image_id
            WHERE version_id = {parent_id:d} AND image_id BETWEEN :first AND :last
            ORDER BY image_id FOR KEY SHARE OF image ON CONFLICT DO NOTHING
            """  # noqa: S608  (numbers)
        ),
        {"first": first, "last": last},
    )
    return int(copied.rowcount)  # type: ignore[attr-defined]  # an INSERT's result is a CursorResult


def lock(session: Session, version_id: int, first: int, last: int) -> None:
    """Keep the pictures of a version with ids from ``first`` to ``last`` from being deleted in this transaction."""
    session.execute(
        text(
            f"""SELECT FROM image WHERE id IN (
                    SELECT image_id FROM dataset_item
                    WHERE version_id = {version_id:d} AND image_id BETWEEN :first AND :last)
                ORDER BY id FOR KEY SHARE"""  # noqa: S608  (a number)
        ),
        {"first": first, "last": last},
    )


def read(session: Session, version_id: int, first: int, last: int) -> list[Item]:
    """Return the pictures of a version with ids from ``first`` to ``last``, by id."""
    return _items(
        session,
        version_id,
        "image_id BETWEEN :first AND :last ORDER BY image_id",
        {"first": first, "last": last},
    )


def after(
    session: Session, version_id: int, image_id: int = 0, limit: int = _BLOCK, *, is_validation: bool | None = None
) -> list[Item]:
    """Return the next pictures of a version after an id, by id. ``is_validation``: only those of this split."""
    return _items(
        session,
        version_id,
        """image_id > :image_id AND (CAST(:is_validation AS boolean) IS NULL OR is_validation = :is_validation)
           ORDER BY image_id LIMIT :limit""",
        {"image_id": image_id, "limit": limit, "is_validation": is_validation},
    )


def of_images(session: Session, version_id: int, image_ids: Sequence[int]) -> list[Item]:
    """Return those of these images that are pictures of a version, by id."""
    return _items(session, version_id, "image_id = ANY(:ids) ORDER BY image_id", {"ids": list(image_ids)})


def _items(session: Session, version_id: int, condition: str, values: dict[str, Any]) -> list[Item]:
    # The number itself lets PostgreSQL look at one partition only, whatever plan it keeps.
    rows = session.execute(
        text(
            f"""SELECT image_id, version, is_validation, group_id, captions, origins FROM dataset_item
                WHERE version_id = {version_id:d} AND {condition}"""  # noqa: S608  (constants and numbers)
        ),
        values,
    )
    return [Item(*row) for row in rows]


def ranges(session: Session, version_id: int, size: int) -> list[Range]:
    """Cut the pictures of a version into ranges of ``size`` or fewer, by id."""
    rows = session.execute(
        text(
            f"""
            SELECT min(image_id) AS first, max(image_id) AS last, count(*) AS images FROM (
                SELECT image_id, (row_number() OVER (ORDER BY image_id) - 1) / :size AS part
                FROM dataset_item WHERE version_id = {version_id:d}
            ) AS numbered GROUP BY part ORDER BY part
            """  # noqa: S608  (a number)
        ),
        {"size": size},
    )
    return [Range(row.first, row.last, int(row.images)) for row in rows]


def ids(session: Session, version_id: int) -> list[int]:
    """Return the ids of all pictures of a version, ascending."""
    statement = text(f"SELECT image_id FROM dataset_item WHERE version_id = {version_id:d} ORDER BY image_id")  # noqa: S608
    return list(session.scalars(statement))


def spread(session: Session, version_id: int, count: int) -> list[int]:
    """Return the ids of up to ``count`` pictures of a version, from all over it, ascending. It reads only these."""
    rows = session.scalars(
        text(
            """SELECT DISTINCT next.image_id FROM (
                   SELECT min(image_id) AS first, max(image_id) AS last FROM dataset_item WHERE version_id = :id
               ) AS ends, generate_series(0, :count - 1) AS n, LATERAL (
                   SELECT image_id FROM dataset_item WHERE version_id = :id
                     AND image_id >= first + (last - first) * n / :count ORDER BY image_id LIMIT 1
               ) AS next ORDER BY 1"""
        ),
        {"id": version_id, "count": count},
    )
    return list(rows)


def sample(session: Session, version_id: int, count: int, seed: int) -> list[int]:
    """Return the ids of up to ``count`` random pictures of a version, ascending: the same ones for the same seed."""
    rows = session.scalars(
        text(
            f"""SELECT image_id FROM (
                    SELECT image_id FROM dataset_item WHERE version_id = {version_id:d}
                    ORDER BY hashint8extended(image_id, :seed), image_id LIMIT :count
                ) AS chosen ORDER BY image_id"""  # noqa: S608  (a number)
        ),
        {"count": count, "seed": seed},
    )
    return list(rows)


def count(session: Session, version_id: int) -> int:
    """Return how many pictures of a version there are now: fewer than when it was made, if images were deleted."""
    statement = text(f"SELECT count(*) FROM dataset_item WHERE version_id = {version_id:d}")  # noqa: S608  (a number)
    return int(session.scalar(statement) or 0)


def splits_of(session: Session, version_id: int) -> Iterator[tuple[int, bool]]:
    """Yield the id of each picture of a version, and whether it is for validation. The session is busy meanwhile."""
    with driver_connection(session).cursor(name="splits") as cursor:
        cursor.itersize = 50_000
        cursor.execute(
            f"SELECT image_id, is_validation FROM dataset_item WHERE version_id = {version_id:d} ORDER BY image_id"  # noqa: S608
        )
        yield from cursor


def _json(captions: Sequence[str]) -> str:
    return json.dumps([caption.replace("\0", " ") for caption in captions])

"""Near copies: what a search for them needs of images, and the groups that the last search found.

Images whose originals are missing are in no group. Groups of equal bytes alone are in ``copies``, not here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import text

from storage.database import driver_connection
from storage.remembered import remembered
from storage.results.copies import Copies, count_alike, there
from storage.results.moments import numbers_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.results.nearness import Thresholds

MOST_NEWER = 1_000_000
"""Newer images are counted up to so many."""

_ALIVE_SECONDS = 60
"""A search that was not heard of for this long has died."""

_REST = 20
"""A search without a request waits so many times as long as the last one took: it takes 5 % of the time."""
_LEAST_REST_SECONDS = 60

_PLAIN = 0
"""``ram_core.picture_hashes.PLAIN``."""

THERE = there("near_copy")

COUNT_OF = count_alike("near_copy", "group_id")
"""How many images are in the group of an image, itself included if its original is there."""

_HASHES = f"""
    SELECT array_send(array_agg(image_id ORDER BY image_id)), array_send(array_agg(shape ORDER BY image_id)),
        max(image_id)
    FROM (
        SELECT content.image_id, content.shape FROM content JOIN image ON image.id = content.image_id
        WHERE content.image_id > %s AND shape IS NOT NULL AND shape <> {_PLAIN} AND image.missing_since IS NULL
        ORDER BY content.image_id LIMIT %s
    ) AS block
"""  # noqa: S608  (constants)

_VECTORS = """
    SELECT record.image_id, record.width::bigint * record.height, image.size, vector.v,
        coalesce(extract(epoch FROM metadata.taken_at)::bigint, 9223372036854775807)
    FROM unnest(%(ids)s::bigint[]) AS wanted (id)
    JOIN record ON record.image_id = wanted.id AND record.generation_id = {generation_id:d}
    JOIN vector ON vector.image_id = wanted.id AND vector.generation_id = {generation_id:d}
    JOIN image ON image.id = wanted.id
    LEFT JOIN metadata ON metadata.image_id = wanted.id
    ORDER BY record.image_id
"""

_STAGE = """
    CREATE TEMPORARY TABLE found_near (image_id bigint, group_id bigint, distance smallint, cosine real) ON COMMIT DROP
"""
# In order of id, as batches lock images. Those that were erased meanwhile are left out; nobody can erase one now.
_LOCK = """
    SELECT image.id FROM image JOIN found_near ON found_near.image_id = image.id
    ORDER BY image.id FOR KEY SHARE OF image
"""
# Of those that have the bytes of the middle, any could be it. It is the one that lists show first.
_NAME = """
    UPDATE found_near SET group_id = first.image_id FROM (
        SELECT DISTINCT ON (found.group_id) found.group_id, found.image_id
        FROM found_near AS found JOIN content ON content.image_id = found.image_id
        JOIN content AS middle ON middle.image_id = found.group_id AND middle.hash = content.hash
        JOIN image ON image.id = found.image_id JOIN archive ON archive.id = image.archive_id
        ORDER BY found.group_id, image.key, archive.uri
    ) AS first WHERE found_near.group_id = first.group_id AND first.image_id <> first.group_id
"""
_FILL = """
    INSERT INTO near_copy (image_id, group_id, distance, cosine)
    SELECT image_id, group_id, distance, cosine FROM found_near JOIN image ON image.id = image_id
    WHERE group_id IN (
        SELECT group_id FROM found_near JOIN content USING (image_id) GROUP BY group_id
        HAVING count(DISTINCT content.hash) > 1
    ) ORDER BY image_id
"""
_COUNTS = f"""
    SELECT (SELECT coalesce(sum(images - missing), 0) FROM archive) AS images,
        (SELECT count(*) FROM content WHERE shape = {_PLAIN}) AS plain, (SELECT count(*) FROM near_copy) AS grouped
"""  # noqa: S608  (constants)

_STATE = f"""
    SELECT found_at, requested_at, started_at > clock_timestamp() - interval '{_ALIVE_SECONDS} seconds' AS is_running,
        generation_id, distance, cosine, images, unread, plain, common, grouped, seconds, watermark::text AS watermark
    FROM near_search
"""  # noqa: S608  (constants)
# Rows of older versions have neither. The index has only rows with both.
_NEWER = """
    SELECT count(*) FROM (
        SELECT FROM content WHERE shape IS NOT NULL AND xid >= CAST(:since AS xid8) LIMIT :most
    ) AS newer
"""

_CLAIM = f"""
    INSERT INTO near_search (id, started_at) VALUES (1, clock_timestamp())
    ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at
    WHERE near_search.started_at IS NULL
        OR near_search.started_at < clock_timestamp() - interval '{_ALIVE_SECONDS} seconds'
    RETURNING started_at
"""  # noqa: S608  (constants)


@dataclass(frozen=True, slots=True)
class Hashes:
    """Some images: ``ids`` (N,) ascending, ``hashes`` (N,) as signed numbers, and the ``last`` id; None: no more."""

    ids: NDArray[np.int64]
    hashes: NDArray[np.int64]
    last: int | None


@dataclass(frozen=True, slots=True)
class Vectors:
    """Images that have a vector: ``ids`` (N,) ascending, how large they are (N,), and ``vectors`` packed as float16.

    ``taken_at`` (N,): when, in seconds; the largest number: that is not known.
    """

    ids: NDArray[np.int64]
    pixels: NDArray[np.int64]
    size_bytes: NDArray[np.int64]
    taken_at: NDArray[np.int64]
    vectors: list[bytes]


@dataclass(frozen=True, slots=True)
class Found:
    """Images in groups: see ``tables.NearCopy``. All (M,), ``ids`` ascending."""

    ids: NDArray[np.int64]
    groups: NDArray[np.int64]
    distances: NDArray[np.int16]
    cosines: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Search:
    """How a search went: see ``tables.NearSearch``."""

    generation_id: int
    thresholds: Thresholds
    watermark: int
    images: int
    common: int
    seconds: float


@dataclass(frozen=True, slots=True)
class NearState:
    """The last search for near copies, and what it does not know.

    Attributes:
        found_at: when it ended; None: there was none yet. Then only the next three count.
        is_running: whether one is under way.
        is_requested: whether somebody asked for another one.
        newer: images that were read, or changed, since; ``MOST_NEWER``: or more.
        generation_id: whose vectors were compared.
        distance, cosine: its thresholds.
        images: how many images were compared.
        unread: images without a hash: an older version of ramq read them, or they could not be read.
        plain: images with next to no structure, which are not compared.
        common: images that were not compared with all candidates: too many pictures have such a hash.
        grouped: images in groups.
        seconds: how long it took.
    """

    found_at: datetime | None = None
    is_running: bool = False
    is_requested: bool = False
    newer: int = 0
    generation_id: int | None = None
    distance: int | None = None
    cosine: float | None = None
    images: int = 0
    unread: int = 0
    plain: int = 0
    common: int = 0
    grouped: int = 0
    seconds: float = 0.0


def watermark(session: Session) -> int:
    """Return the transaction from which on others may write what this one does not see."""
    return int(session.scalar(text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")) or 0)


def hashes(session: Session, after: int, limit: int) -> Hashes:
    """Return the hashes of images whose originals are there, from an id on. Pictures without structure are left out."""
    row = driver_connection(session).execute(_HASHES, (after, limit), binary=True).fetchone()
    if row is None or row[0] is None:
        return Hashes(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), None)
    return Hashes(numbers_of(row[0], ">i8"), numbers_of(row[1], ">i8"), row[2])


def vectors(session: Session, generation_id: int, image_ids: NDArray[np.int64]) -> Vectors:
    """Return the vectors of those of these images that have one under a generation, and how large they are."""
    statement = _VECTORS.format(generation_id=generation_id)
    rows = driver_connection(session).execute(statement, {"ids": image_ids.tolist()}, binary=True).fetchall()
    return Vectors(
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows], dtype=np.int64),
        np.array([row[2] for row in rows], dtype=np.int64),
        np.array([row[4] for row in rows], dtype=np.int64),
        [row[3] for row in rows],
    )


def store(session: Session, found: Found, search: Search) -> NearState:
    """Store what a search found, in place of what was found before, and return its state."""
    # Not two at once: the second one waits, and replaces what the first one found.
    session.execute(text("SELECT FROM near_search FOR UPDATE"))
    session.execute(text(_STAGE))
    with (
        driver_connection(session).cursor() as cursor,
        cursor.copy("COPY found_near FROM STDIN WITH (FORMAT BINARY)") as copy,
    ):
        copy.set_types(["int8", "int8", "int2", "float4"])
        columns = (found.ids.tolist(), found.groups.tolist(), found.distances.tolist(), found.cosines.tolist())
        for row in zip(*columns, strict=True):
            copy.write_row(row)
    session.execute(text("ANALYZE found_near"))
    session.execute(text(f"SELECT count(*) FROM ({_LOCK}) AS locked"))  # noqa: S608  (constants)
    session.execute(text(_NAME))
    session.execute(text("DELETE FROM near_copy"))
    session.execute(text(_FILL))
    counted = session.execute(text(_COUNTS)).one()
    values = {
        **asdict(search.thresholds),
        "generation_id": search.generation_id,
        "watermark": str(search.watermark),
        "images": search.images,
        "unread": max(0, int(counted.images) - search.images - counted.plain),
        "plain": counted.plain,
        "common": search.common,
        "grouped": counted.grouped,
        "seconds": search.seconds,
    }
    columns_of = ", ".join(
        f"{name} = CAST(:{name} AS xid8)" if name == "watermark" else f"{name} = :{name}" for name in values
    )
    session.execute(text("INSERT INTO near_search (id) VALUES (1) ON CONFLICT DO NOTHING"))
    session.execute(
        text(
            f"""UPDATE near_search SET {columns_of}, found_at = clock_timestamp(), started_at = NULL,
                requested_at = CASE
                    WHEN requested_at > clock_timestamp() - make_interval(secs => :seconds) THEN requested_at END"""  # noqa: S608  (constants)
        ),
        values,
    )
    return state(session)


def state(session: Session, most_newer: int = MOST_NEWER) -> NearState:
    """Return what the last search knows. Newer images are counted up to ``most_newer``."""
    row = session.execute(text(_STATE)).one_or_none()
    since = "0" if row is None or row.watermark is None else row.watermark
    newer = int(session.scalar(text(_NEWER), {"since": since, "most": most_newer}) or 0)
    if row is None:
        return NearState(newer=newer)
    is_running, is_requested = bool(row.is_running), row.requested_at is not None
    if row.found_at is None:
        return NearState(None, is_running, is_requested, newer)
    return NearState(
        found_at=row.found_at,
        is_running=is_running,
        is_requested=is_requested,
        newer=newer,
        generation_id=row.generation_id,
        distance=row.distance,
        cosine=row.cosine,
        images=row.images,
        unread=row.unread,
        plain=row.plain,
        common=row.common,
        grouped=row.grouped,
        seconds=row.seconds,
    )


def request(session: Session) -> None:
    """Ask the workers for a search."""
    session.execute(
        text(
            """INSERT INTO near_search (id, requested_at) VALUES (1, clock_timestamp())
               ON CONFLICT (id) DO UPDATE SET requested_at = excluded.requested_at"""
        )
    )


def is_due(session: Session, thresholds: Thresholds, generation_id: int) -> bool:
    """Whether a worker should search now.

    Somebody asked; or images are newer, or the thresholds others, and the last search is long enough ago. Workers with
    different settings would otherwise search in turns without end.
    """
    now = state(session, most_newer=1)
    if now.is_running:
        return False
    if now.is_requested or now.found_at is None:
        return now.is_requested or bool(now.newer)
    asked = (thresholds.distance, round(thresholds.cosine, 4), generation_id)
    if not now.newer and asked == (now.distance, round(now.cosine or 0, 4), now.generation_id):
        return False
    rest = max(_LEAST_REST_SECONDS, _REST * now.seconds)
    rested = session.scalar(
        text("SELECT found_at + make_interval(secs => :rest) < clock_timestamp() FROM near_search"), {"rest": rest}
    )
    return bool(rested)


def claim(session: Session) -> datetime | None:
    """Begin a search. Return what ``go_on`` takes; None: another process is searching."""
    begun: datetime | None = session.scalar(text(_CLAIM))
    return begun


def go_on(session: Session, begun: datetime) -> datetime | None:
    """Say that a search is under way. Return what the next call takes; None: another process has taken it over."""
    said: datetime | None = session.scalar(
        text("UPDATE near_search SET started_at = clock_timestamp() WHERE started_at = :begun RETURNING started_at"),
        {"begun": begun},
    )
    return said


def give_up(session: Session, begun: datetime) -> None:
    """Say that a search has ended without a result."""
    session.execute(text("UPDATE near_search SET started_at = NULL WHERE started_at = :begun"), {"begun": begun})


def every(session: Session) -> Copies:
    """Return all images that are in a group of near copies whose originals are there."""

    def read() -> Copies:
        row = (
            driver_connection(session)
            .execute(
                f"""WITH there AS (
                    SELECT image_id, group_id, count(*) OVER (PARTITION BY group_id) AS n FROM near_copy WHERE {THERE}
                )
                SELECT array_send(array_agg(image_id ORDER BY image_id)),
                    array_send(array_agg(group_id ORDER BY image_id)) FROM there WHERE n > 1""",  # noqa: S608
                binary=True,
            )
            .fetchone()
        )
        if row is None or row[0] is None:
            return Copies(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
        return Copies(numbers_of(row[0], ">i8"), numbers_of(row[1], ">i8"))

    return remembered(session, "images with a near copy", read)


def alike(session: Session, image_id: int) -> NDArray[np.int64]:
    """Return the images of the group of this one, itself included: ids, ascending. Empty if it is in none."""
    found: Sequence[Any] = session.scalars(
        text(
            f"""SELECT near_copy.image_id FROM near_copy AS own JOIN near_copy USING (group_id)
                WHERE own.image_id = :id AND {THERE} ORDER BY 1"""  # noqa: S608  (constants)
        ),
        {"id": image_id},
    ).all()
    return np.array(found, dtype=np.int64)


def count(session: Session, image_id: int) -> int:
    """Return how many images are in the group of this one, itself included; 1: it is in none."""
    return max(1, int(session.scalar(text(f"SELECT {COUNT_OF.format(image_id=':id')}"), {"id": image_id}) or 0))

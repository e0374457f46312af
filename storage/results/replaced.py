"""Keys that hold other bytes than before: the picture that people spoke of is parted from the one that is there now.

Files trade names, series are numbered anew, a file is written over another one. No key is gone then, so ``moves`` alone
would not see it. Here such an image is parted in two: it keeps its number and what people said, as an image whose file
is gone, and a new image has the key and what was made of the bytes that are there now. Then ``moves`` lets each image
that is gone continue where its bytes are. What was said of a picture that is nowhere stays at an image that is missing.

``docs/decisions/0040-traded-names.md`` says why, and what is taken for the same picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import text

from storage.results import (
    archives,
    crops,
    keywords,
    metadata,
    moves,
    readings,
    region_lists,
    regions,
    said,
    teachings,
    vectors,
)
from storage.results.packing import CODE, unpack_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

AT_ONCE = 250
"""Images that are parted in one transaction."""

SAME_PICTURE = 0.999
"""Least cosine of the vectors of two files that show the same pixels: a model gives these numbers apart from rounding.

Files of which only what they say was changed (a rating, keywords) are the same picture. Two pictures of a burst may be
as near: where the hash of the pixels is known of both, it has to be the same, too."""

_MOST_KEY = 1_000

# When the picture was missed: after the last listing whose job was done, which would have read the other bytes.
_MISSED_AT = """least(former.changed_at, interval '1 microsecond' + greatest(image.listed_at, (
    SELECT max(listed_all_at) FROM job
    WHERE job.archive_id = former.archive_id AND stage = 'recognition' AND state = 'done' AND id <> :job_id
      AND listed_all_at < former.changed_at
      AND manifest_version IS NULL AND from_generation_id IS NULL AND query IS NULL
      AND (trim(both '/' FROM prefix) = '' OR image.key = trim(both '/' FROM prefix)
           OR starts_with(image.key, trim(both '/' FROM prefix) || '/')))))"""

# Its bytes are elsewhere now: in a file that is new, or whose bytes are others than before, too.
_IS_FOUND = f"""EXISTS (
    SELECT FROM content AS other JOIN image AS there ON there.id = other.image_id
    WHERE other.hash = former.hash AND other.image_id <> former.image_id AND there.archive_id = former.archive_id
      AND there.missing_since IS NULL
      AND (there.listed_at >= {_MISSED_AT}
           OR EXISTS (SELECT FROM former_content AS too WHERE too.image_id = there.id)))"""  # noqa: S608  (constants)

# The bytes that it has now were those of another image, which continues here.
_IS_WANTED = """(
    EXISTS (SELECT FROM former_content AS too WHERE too.archive_id = former.archive_id AND too.hash = content.hash)
    OR EXISTS (SELECT FROM content AS other JOIN image AS gone ON gone.id = other.image_id
               WHERE other.hash = content.hash AND gone.archive_id = former.archive_id
                 AND gone.missing_since IS NOT NULL AND gone.id <> image.id))"""

# Whether only what the file says was changed can be told when the picture is recognised.
_MAY_BE_TOLD = """(
    former.v IS NOT NULL AND image.missing_since IS NULL
    AND NOT EXISTS (SELECT FROM record WHERE record.image_id = image.id AND record.version = content.version
                    AND record.generation_id = former.generation_id)
    AND EXISTS (SELECT FROM shard JOIN job ON job.id = shard.job_id
                WHERE shard.state IN ('ready', 'leased') AND job.state IN ('running', 'paused')
                  AND job.generation_id = former.generation_id AND image.id = ANY(shard.image_ids)))"""

_CHANGED = f"""
    WITH changed AS MATERIALIZED (
        SELECT former.image_id, former.version, former.changed_at, former.v, former.width, former.height,
            former.pixels, content.pixels AS pixels_now,
            content.version AS read, {_MISSED_AT} AS missed_at, {_IS_FOUND} OR {_IS_WANTED} AS trades,
            {said.OF_IMAGE} AS was_spoken_of, {_MAY_BE_TOLD} AS may_be_told,
            now.v AS v_now, now.width AS width_now, now.height AS height_now
        FROM former_content AS former JOIN image ON image.id = former.image_id
        JOIN content ON content.image_id = former.image_id
        LEFT JOIN LATERAL (
            SELECT vector.v, record.width, record.height FROM record JOIN vector USING (image_id, generation_id)
            WHERE record.image_id = image.id AND record.generation_id = former.generation_id
              AND record.version = content.version
        ) AS now ON true
        WHERE former.archive_id = :archive_id AND NOT {moves.IS_LEASED}
    )
    SELECT * FROM changed WHERE trades OR NOT (was_spoken_of AND may_be_told) ORDER BY image_id LIMIT :limit
"""  # noqa: S608  (constants)

_PAIR = "unnest(CAST(:kept AS bigint[]), CAST(:fresh AS bigint[])) AS pair (kept, fresh)"
"""``fresh`` is the image that is there now, ``kept`` the new number of it."""

_WITH_VERSION = ("record", "feature", "reading", "localization", "look", "failure", "metadata", "opening")


def part(session: Session, archive_id: int, job_id: int, job_ids: Sequence[int]) -> int:
    """Part some images of an archive whose keys hold other bytes than before. Return how many were decided on.

    Call it again until there are none, and then ``moves.settle``. Doing it twice changes nothing.

    Args:
        session: a transaction.
        archive_id: the archive, which was listed completely.
        job_id: the job that has ended.
        job_ids: that job and those that followed it: their reports name what is there now.
    """
    some = text("SELECT EXISTS (SELECT FROM former_content WHERE archive_id = :id)")
    if not session.scalar(some, {"id": archive_id}):
        return 0
    teachings.lock(session)
    archives.lock(session, [archive_id])
    values = {"archive_id": archive_id, "job_id": job_id, "limit": AT_ONCE}
    found = session.execute(text(_CHANGED), values).all()
    taken = moves.hold_shards(session, archive_id, [row.image_id for row in found])
    free = [row for row in found if row.image_id not in taken]
    parted = [row for row in free if row.trades or (row.was_spoken_of and not _is_same_picture(row))]
    if parted:
        _part(session, parted, job_ids)
    session.execute(
        text("DELETE FROM former_content WHERE image_id = ANY(:ids)"), {"ids": [row.image_id for row in free]}
    )
    return len(free)


def _is_same_picture(row: Row[Any]) -> bool:
    if row.v is None or row.v_now is None or (row.width, row.height) != (row.width_now, row.height_now):
        return False
    if row.pixels is not None and row.pixels_now is not None and row.pixels != row.pixels_now:
        return False
    length = len(row.v) // CODE.itemsize
    before, now = (unpack_vectors(packed, length)[0].astype(np.float32) for packed in (row.v, row.v_now))
    return bool(before @ now >= SAME_PICTURE)


def _part(session: Session, rows: Sequence[Row[Any]], job_ids: Sequence[int]) -> None:
    ids = [row.image_id for row in rows]
    numbers = session.scalars(
        text("SELECT nextval(pg_get_serial_sequence('image', 'id')) FROM generate_series(1, :n)"), {"n": len(ids)}
    ).all()
    pairs = {"kept": list(numbers), "fresh": ids}
    timed = {**pairs, "changed": [row.changed_at for row in rows]}
    session.execute(text("SELECT id FROM image WHERE id = ANY(:ids) ORDER BY id FOR UPDATE"), {"ids": ids})
    region_lists.lock(session, sorted([*ids, *numbers]))
    _add_images(session, rows, pairs)
    _move_results(session, rows, pairs)
    metadata.join_sidecars(session, sorted([*ids, *numbers]))
    _move_words(session, timed)
    moves.name_in_jobs(session, pairs, job_ids)
    crops.erase(session, ids)
    regions.count_again(session, sorted([*ids, *numbers]))
    readings.forget_lost(session, ids)
    for image_id in sorted([*ids, *numbers]):
        readings.note_changes(session, image_id)
    vectors.touch(session, sorted([*ids, *numbers]))


def _add_images(session: Session, rows: Sequence[Row[Any]], pairs: dict[str, list[int]]) -> None:
    """Give the key to a new image, and a name to the one that is gone: under which nothing is in the archive."""
    places = [
        dict(row._mapping)  # noqa: SLF001  (SQLAlchemy's documented name)
        for row in session.execute(
            text(
                f"""SELECT pair.kept AS id, image.archive_id, image.key, image.version, image.size, image.modified_at,
                        image.missing_since FROM {_PAIR} JOIN image ON image.id = pair.fresh"""  # noqa: S608
            ),
            pairs,
        )
    ]
    session.execute(
        text(
            """UPDATE image SET version = :version, missing_since = :missed_at,
                   key = left(key, :most) || ' (replaced, image ' || id || ')' || CASE WHEN EXISTS (
                       SELECT FROM image AS taken WHERE taken.archive_id = image.archive_id
                       AND taken.key = left(image.key, :most) || ' (replaced, image ' || image.id || ')'
                   ) THEN ' ' || left(md5(random()::text), 8) ELSE '' END
               WHERE id = :image_id"""
        ),
        [
            {"image_id": row.image_id, "version": row.version, "missed_at": row.missed_at, "most": _MOST_KEY}
            for row in rows
        ],
    )
    session.execute(
        text(
            """INSERT INTO image (id, archive_id, key, version, size, modified_at, missing_since)
               VALUES (:id, :archive_id, :key, :version, :size, :modified_at, :missing_since)"""
        ),
        places,
    )
    session.execute(
        text(
            f"""UPDATE content SET image_id = pair.kept, xid = pg_current_xact_id() FROM {_PAIR}
                WHERE content.image_id = pair.fresh"""  # noqa: S608  (constants)
        ),
        pairs,
    )
    session.execute(
        text(
            """INSERT INTO content (image_id, version, hash)
               SELECT image_id, version, hash FROM former_content WHERE image_id = ANY(:fresh)"""
        ),
        pairs,
    )


def _move_results(session: Session, rows: Sequence[Row[Any]], pairs: dict[str, list[int]]) -> None:
    """Give the new images what was made of the bytes that are there now."""
    values = {**pairs, "read": [row.read for row in rows]}
    of_these = """unnest(CAST(:kept AS bigint[]), CAST(:fresh AS bigint[]), CAST(:read AS text[]))
        AS pair (kept, fresh, read)"""
    indexed = f"""INSERT INTO erasure (image_id, generation_id)
        SELECT image_id, generation_id FROM {of_these} JOIN (
            SELECT image_id, generation_id, version FROM record UNION ALL
            SELECT image_id, generation_id, version FROM look
        ) AS held ON held.image_id = pair.fresh AND held.version = pair.read
        ON CONFLICT (image_id, generation_id) DO UPDATE SET xid = pg_current_xact_id(), erased_at = now()"""  # noqa: S608
    vector = f"""UPDATE vector SET image_id = pair.kept, xid = pg_current_xact_id()
        FROM {of_these}, record WHERE vector.image_id = pair.fresh AND record.image_id = pair.fresh
        AND record.generation_id = vector.generation_id AND record.version = pair.read"""  # noqa: S608  (constants)
    session.execute(text(indexed), values)
    session.execute(text(vector), values)
    for table in _WITH_VERSION:
        xid = ", xid = pg_current_xact_id()" if table in {"look", "metadata"} else ""
        moved = f"""UPDATE {table} SET image_id = pair.kept{xid} FROM {of_these}
            WHERE {table}.image_id = pair.fresh AND {table}.version = pair.read"""  # noqa: S608  (constants)
        session.execute(text(moved), values)


def _move_words(session: Session, timed: dict[str, list[Any]]) -> None:
    """Give the new images what people said since other bytes were read at their keys."""
    of_these = """unnest(CAST(:kept AS bigint[]), CAST(:fresh AS bigint[]), CAST(:changed AS timestamptz[]))
        AS pair (kept, fresh, changed)"""
    for table in (*said.BY_NAME, *said.ANYWHERE):
        moved = f"""UPDATE {table} SET image_id = pair.kept FROM {of_these}
            WHERE {table}.image_id = pair.fresh AND {table}.said_at > pair.changed"""  # noqa: S608  (constants)
        session.execute(text(moved), timed)
    # Whose act began after that: an act is of one time.
    given = f"""UPDATE keyword_said SET image_id = pair.kept FROM {of_these}, keyword_act
        WHERE keyword_said.image_id = pair.fresh AND keyword_act.id = act_id AND keyword_act.said_at > pair.changed"""  # noqa: S608
    session.execute(text(given), timed)
    keywords.settle(session, {*timed["kept"], *timed["fresh"]})
    newer = f"""SELECT pair.kept, pair.fresh, item.version_id FROM {of_these}
        JOIN dataset_item AS item ON item.image_id = pair.fresh
        JOIN content ON content.image_id = pair.kept AND content.version = item.version"""  # noqa: S608  (constants)
    for kept, fresh, version_id in session.execute(text(newer), timed).all():
        for table in said.IN_DATASETS:
            moved = f"UPDATE {table} SET image_id = :kept WHERE image_id = :fresh AND version_id = :version_id"  # noqa: S608
            session.execute(text(moved), {"kept": kept, "fresh": fresh, "version_id": version_id})
    for column in ("yes", "no"):
        taught = f"""UPDATE head SET {column} = ARRAY(
                SELECT coalesce(pair.kept, named.id) FROM unnest({column}) WITH ORDINALITY AS named (id, n)
                LEFT JOIN {of_these} ON pair.fresh = named.id AND head.taught_at > pair.changed ORDER BY named.n)
            WHERE {column} && CAST(:fresh AS bigint[])"""  # noqa: S608  (constants)
        session.execute(text(taught), timed)

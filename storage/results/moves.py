"""Moved files: an image whose file is gone continues where a file with the same bytes appeared.

It keeps its number, and with it everything that people said of it and every data set that it is in. It gets the key,
and the results, of the image that was listed there; that one is erased. ``docs/decisions/0029-same-picture.md`` says
why, and what counts as a move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.results import (
    archives,
    contents,
    erasures,
    keywords,
    merged,
    metadata,
    readings,
    region_lists,
    regions,
    said,
    teachings,
    vectors,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

AT_ONCE = 500
"""Moves in one transaction, and hashes that are looked at in one. Workers that write these images wait for it."""

_FILE_NAME = "regexp_replace(image.key, '^.*/', '')"

# A worker has the ids of a leased shard in its memory, and writes under them. Others are renamed.
IS_LEASED = """image.id IN (SELECT unnest(image_ids) FROM shard JOIN job ON job.id = shard.job_id
    WHERE shard.state = 'leased' AND job.archive_id = :archive_id)"""

# What was said of it may belong to the bytes that its key had before: see ``replaced``.
_IS_UNDECIDED = "EXISTS (SELECT FROM former_content AS former WHERE former.image_id = image.id)"

# What was said was said of the bytes that were read, whatever the key held afterwards.
_GONE = "image.archive_id = :archive_id AND image.missing_since IS NOT NULL"

# Images with the same bytes are looked at together, so hashes are taken in order.
_HASHES = f"""
    SELECT DISTINCT content.hash FROM image JOIN content ON content.image_id = image.id
    WHERE {_GONE} AND content.hash > :after
      AND EXISTS (SELECT FROM content AS other JOIN image AS there ON there.id = other.image_id
                  WHERE other.hash = content.hash AND there.archive_id = :archive_id AND there.missing_since IS NULL)
    ORDER BY content.hash LIMIT :limit
"""  # noqa: S608  (constants)

# An image that is gone was last there at the end of the last complete listing of its place before it was missed, or
# when it was listed itself. What was listed after that is new.
_CANDIDATES = f"""
    WITH listing AS MATERIALIZED (
        SELECT trim(both '/' FROM prefix) AS prefix, listed_all_at FROM job
        WHERE archive_id = :archive_id AND stage = 'recognition' AND listed_all_at IS NOT NULL
          AND manifest_version IS NULL AND from_generation_id IS NULL AND query IS NULL AND NOT of_keys
    ), candidate AS (
        SELECT image.id, content.hash, image.key, {_FILE_NAME} AS file_name, {said.OF_IMAGE} AS was_spoken_of,
            greatest(image.listed_at, (
                SELECT max(listed_all_at) FROM listing WHERE listed_all_at < image.missing_since
                AND (prefix = '' OR image.key = prefix OR starts_with(image.key, prefix || '/')))) AS seen_at,
            CAST(NULL AS timestamptz) AS listed_at
        FROM content JOIN image ON image.id = content.image_id WHERE content.hash = ANY(:hashes) AND {_GONE}
          AND NOT {IS_LEASED} AND NOT {_IS_UNDECIDED}
        UNION ALL
        SELECT image.id, content.hash, image.key, {_FILE_NAME}, {said.OF_IMAGE}, NULL, image.listed_at
        FROM content JOIN image ON image.id = content.image_id
        WHERE content.hash = ANY(:hashes) AND image.archive_id = :archive_id AND image.missing_since IS NULL
          AND image.version = content.version AND NOT {IS_LEASED} AND NOT {_IS_UNDECIDED}
    ), dated AS MATERIALIZED (
        SELECT *, min(seen_at) OVER (PARTITION BY hash) AS first_seen_at FROM candidate
    )"""  # noqa: S608  (constants)

# The first gone image with the first new one, and so on: in the order of keys, if there are several of the same bytes.
_PAIRS = """, gone AS (
        SELECT id, hash, {file_name} AS name, was_spoken_of, seen_at,
            row_number() OVER (PARTITION BY hash, {file_name} ORDER BY {first} key) AS place
        FROM dated WHERE seen_at IS NOT NULL AND ({gone})
    ), fresh AS (
        SELECT id, hash, {file_name} AS name, was_spoken_of, listed_at,
            row_number() OVER (PARTITION BY hash, {file_name} ORDER BY key) AS place
        FROM dated WHERE listed_at IS NOT NULL AND ({fresh})
    )
    SELECT gone.id AS kept, fresh.id AS fresh FROM gone JOIN fresh USING (hash, name, place)
    WHERE {both} ORDER BY gone.id LIMIT :limit
"""
_IS_NEW = "listed_at > first_seen_at"
_WAYS = (
    # A file that appeared after the other one was last seen: with the same name, then with any.
    {"file_name": "file_name", "first": "", "gone": "true", "fresh": _IS_NEW, "both": "listed_at > seen_at"},
    {
        "file_name": "''",
        "first": "was_spoken_of DESC,",
        "gone": "true",
        "fresh": _IS_NEW,
        "both": "listed_at > seen_at",
    },
    # A file that may have been there before: what people said of the picture goes to it if nothing was said of it.
    {"file_name": "''", "first": "", "gone": "was_spoken_of", "fresh": "NOT was_spoken_of", "both": "true"},
)

_PAIR = "unnest(CAST(:kept AS bigint[]), CAST(:fresh AS bigint[])) AS pair (kept, fresh)"

_RESULTS = ("record", "vector", "feature", "reading", "localization", "look")
"""Tables of results that the image takes over, under every generation that has recorded the new one. Words that search
finds and lists of regions are made again; crops are made by their next job."""

_HAS_XID = {"vector", "look"}


@dataclass(frozen=True, slots=True)
class Move:
    """An image whose file is gone, and the image that was listed where it is now."""

    kept: int
    fresh: int


@dataclass(frozen=True, slots=True)
class Settled:
    """How many images were moved, and where to go on; None: there is nothing left to look at."""

    moved: int
    after: bytes | None


def settle(session: Session, archive_id: int, job_ids: Sequence[int] = (), after: bytes = b"") -> Settled:
    """Let some images of an archive continue where their files are now.

    Call it again until nothing is left. Doing it twice changes nothing. New images in a shard on which a worker is are
    left for the end of its job.

    Args:
        session: a transaction.
        archive_id: the archive, which was listed completely.
        job_ids: jobs whose reports name the images that are erased here. They get the others instead.
        after: where the last call said to go on; empty: at the beginning.
    """
    if not after:
        missing = text("SELECT id FROM image WHERE archive_id = :id AND missing_since IS NOT NULL")
        contents.note_recorded(session, session.scalars(missing, {"id": archive_id}).all())
    values = {"archive_id": archive_id, "limit": AT_ONCE}
    hashes = session.scalars(text(_HASHES), {**values, "after": after}).all()
    if not hashes:  # as at the end of nearly every job
        return Settled(0, None)
    # In the order in which a deletion locks.
    teachings.lock(session)
    archives.lock(session, [archive_id])
    moves = _found(session, {**values, "hashes": hashes})
    taken = hold_shards(session, archive_id, [each for move in moves for each in (move.kept, move.fresh)])
    moves = [move for move in moves if not {move.kept, move.fresh} & taken]
    if not moves:
        return Settled(0, hashes[-1] if len(hashes) == AT_ONCE else None)
    join(session, moves, job_ids)
    return Settled(len(moves), after)


def join(session: Session, moves: Sequence[Move], job_ids: Sequence[int] = ()) -> None:
    """Let images continue where others are, which are erased; links to the numbers of these lead to the images.

    Args:
        session: a transaction, which holds the lock of what was taught, and that of the archive.
        moves: no image may be in two of them.
        job_ids: jobs whose reports name the images that are erased.
    """
    pairs = {"kept": [move.kept for move in moves], "fresh": [move.fresh for move in moves]}
    every = sorted(pairs["kept"] + pairs["fresh"])
    session.execute(text("SELECT id FROM image WHERE id = ANY(:ids) ORDER BY id FOR UPDATE"), {"ids": every})
    region_lists.lock(session, every)
    located = session.scalars(
        text("SELECT DISTINCT image_id FROM localization WHERE image_id = ANY(:fresh)"), {"fresh": pairs["fresh"]}
    ).all()
    read = session.scalars(
        text("SELECT DISTINCT image_id FROM reading WHERE image_id = ANY(:fresh)"), {"fresh": pairs["fresh"]}
    ).all()
    was_said = _take_what_was_said(session, pairs)
    _take_results(session, pairs)
    name_in_jobs(session, pairs, job_ids)
    places = session.execute(
        text(
            f"""SELECT pair.kept, image.key, image.version, image.size, image.modified_at, image.missing_since,
                    old.version AS before, now.version AS read, now.hash, now.shape, now.pixels,
                    old.hash = now.hash AS is_same
                FROM {_PAIR} JOIN image ON image.id = pair.fresh
                LEFT JOIN content AS old ON old.image_id = pair.kept
                LEFT JOIN content AS now ON now.image_id = pair.fresh"""  # noqa: S608  (constants)
        ),
        pairs,
    ).all()
    touched = {row.kept: (row.before, row.read) for row in places if row.is_same and row.before != row.read}
    contents.hand_on(session, touched)
    merged.note(session, {move.fresh: move.kept for move in moves})
    erasures.erase(session, pairs["fresh"], forgets_names=False)
    _rename(session, [dict(row._mapping) for row in places])  # noqa: SLF001  (SQLAlchemy's documented name)
    metadata.join_sidecars(session, sorted(pairs["kept"]))
    new_id = {move.fresh: move.kept for move in moves}
    _count_again(session, {new_id[one] for one in (*located, *was_said)}, {new_id[one] for one in (*read, *was_said)})
    vectors.touch(session, sorted(pairs["kept"]))


def hold_shards(session: Session, archive_id: int, image_ids: Sequence[int]) -> set[int]:
    """Keep shards with these images from being claimed in this transaction. Return those that a worker has already."""
    if not image_ids:
        return set()
    values = {"ids": list(image_ids), "archive_id": archive_id}
    session.execute(
        text(
            """SELECT shard.id FROM shard JOIN job ON job.id = shard.job_id
               WHERE shard.state = 'ready' AND job.archive_id = :archive_id AND image_ids && CAST(:ids AS bigint[])
               ORDER BY shard.id FOR UPDATE OF shard"""
        ),
        values,
    )
    leased = f"SELECT image.id FROM image WHERE image.id = ANY(:ids) AND {IS_LEASED}"  # noqa: S608  (constants)
    return set(session.scalars(text(leased), values))


def _found(session: Session, values: dict[str, object]) -> list[Move]:
    for way in _WAYS:
        rows = session.execute(text(_CANDIDATES + _PAIRS.format(**way)), values).all()
        if rows:
            return [Move(row.kept, row.fresh) for row in rows]
    return []


def _take_results(session: Session, pairs: dict[str, list[int]]) -> None:
    """Give images the results of the new ones, instead of their own under the same generation."""
    session.execute(
        text(
            f"""INSERT INTO erasure (image_id, generation_id)
                SELECT image_id, generation_id FROM {_PAIR} JOIN (
                    SELECT image_id, generation_id FROM vector UNION ALL SELECT image_id, generation_id FROM look
                ) AS indexed ON indexed.image_id = pair.fresh
                ON CONFLICT (image_id, generation_id) DO UPDATE SET xid = pg_current_xact_id(), erased_at = now()"""  # noqa: S608
        ),
        pairs,
    )
    for table in _RESULTS:
        session.execute(
            text(
                f"""DELETE FROM {table} AS own USING {_PAIR}, {table} AS new
                    WHERE own.image_id = pair.kept AND new.image_id = pair.fresh
                    AND new.generation_id = own.generation_id"""  # noqa: S608  (constants)
            ),
            pairs,
        )
        xid = ", xid = pg_current_xact_id()" if table in _HAS_XID else ""
        session.execute(
            text(f"UPDATE {table} SET image_id = pair.kept{xid} FROM {_PAIR} WHERE {table}.image_id = pair.fresh"),  # noqa: S608
            pairs,
        )
    for table, xid in (("metadata", ", xid = pg_current_xact_id()"), ("opening", "")):
        told = f"""DELETE FROM {table} AS own USING {_PAIR}, {table} AS new
            WHERE own.image_id = pair.kept AND new.image_id = pair.fresh"""  # noqa: S608  (constants)
        session.execute(text(told), pairs)
        moved = f"""UPDATE {table} SET image_id = pair.kept{xid}
            FROM {_PAIR} WHERE {table}.image_id = pair.fresh"""  # noqa: S608  (constants)
        session.execute(text(moved), pairs)
    session.execute(
        text(
            f"""UPDATE failure SET image_id = pair.kept FROM {_PAIR} WHERE failure.image_id = pair.fresh
                AND NOT EXISTS (SELECT FROM failure AS own
                    WHERE own.image_id = pair.kept AND own.job_id = failure.job_id)"""  # noqa: S608  (constants)
        ),
        pairs,
    )


def _take_what_was_said(session: Session, pairs: dict[str, list[int]]) -> set[int]:
    """Give images what people said of the new ones meanwhile. Return the new ones of whose text or regions they did."""
    for table, what in said.BY_NAME.items():
        columns = what.strip("()").split(", ")
        same = " AND ".join(f"own.{column} = new.{column}" for column in columns)
        older = f"""DELETE FROM {table} AS own USING {_PAIR}, {table} AS new WHERE own.image_id = pair.kept
            AND new.image_id = pair.fresh AND {same} AND own.said_at < new.said_at"""  # noqa: S608  (constants)
        moved = f"""UPDATE {table} AS new SET image_id = pair.kept FROM {_PAIR} WHERE new.image_id = pair.fresh
            AND NOT EXISTS (SELECT FROM {table} AS own WHERE own.image_id = pair.kept AND {same})"""  # noqa: S608
        session.execute(text(older), pairs)
        session.execute(text(moved), pairs)
    _take_keywords(session, pairs)
    was_said: set[int] = set()
    for table in said.ANYWHERE:
        moved = f"""UPDATE {table} SET image_id = pair.kept FROM {_PAIR} WHERE {table}.image_id = pair.fresh
            RETURNING pair.fresh"""  # noqa: S608  (constants)
        was_said.update(session.scalars(text(moved), pairs))
    both = f"""SELECT pair.kept, pair.fresh, item.version_id FROM {_PAIR}
        JOIN dataset_item AS item ON item.image_id = pair.fresh WHERE NOT EXISTS (
            SELECT FROM dataset_item AS own WHERE own.image_id = pair.kept AND own.version_id = item.version_id)"""  # noqa: S608
    for kept, fresh, version_id in session.execute(text(both), pairs).all():
        for table in said.IN_DATASETS:
            moved = f"UPDATE {table} SET image_id = :kept WHERE image_id = :fresh AND version_id = :version_id"  # noqa: S608
            session.execute(text(moved), {"kept": kept, "fresh": fresh, "version_id": version_id})
    for column in ("yes", "no"):
        renamed = f"""UPDATE head SET {column} = ARRAY(
                SELECT DISTINCT ON (at) id FROM (
                    SELECT coalesce(pair.kept, named.id) AS id,
                        min(named.n) OVER (PARTITION BY coalesce(pair.kept, named.id)) AS at
                    FROM unnest({column}) WITH ORDINALITY AS named (id, n) LEFT JOIN {_PAIR} ON pair.fresh = named.id
                ) AS every ORDER BY at)
            WHERE {column} && CAST(:fresh AS bigint[])"""  # noqa: S608  (constants)
        session.execute(text(renamed), pairs)
    return was_said


def _take_keywords(session: Session, pairs: dict[str, list[int]]) -> None:
    """Give images the keywords of the new ones too. Each of these was given after the image was last seen."""
    moved = f"""UPDATE keyword_said AS new SET image_id = pair.kept FROM {_PAIR} WHERE new.image_id = pair.fresh
        AND NOT EXISTS (SELECT FROM keyword_said AS own WHERE own.image_id = pair.kept
            AND own.fold = new.fold AND own.act_id = new.act_id) RETURNING pair.kept"""  # noqa: S608  (constants)
    keywords.settle(session, set(session.scalars(text(moved), pairs)))


def name_in_jobs(session: Session, pairs: dict[str, list[int]], job_ids: Sequence[int]) -> None:
    """Name the images that stay in shards: of jobs whose reports would lack their keys, and of what is still to do.

    An image that waits in the same shard under both numbers stays there under one: the other one is passed over.
    """
    for which in ("job_id = ANY(:job_ids)", "state = 'ready'"):  # each has its index
        session.execute(
            text(
                f"""UPDATE shard SET image_ids = ARRAY(
                        SELECT CASE WHEN pair.kept = ANY(shard.image_ids) THEN named.id
                            ELSE coalesce(pair.kept, named.id) END
                        FROM unnest(shard.image_ids) WITH ORDINALITY AS named (id, n)
                        LEFT JOIN {_PAIR} ON pair.fresh = named.id ORDER BY named.n)
                    WHERE {which} AND image_ids && CAST(:fresh AS bigint[])"""  # noqa: S608  (constants)
            ),
            {**pairs, "job_ids": list(job_ids)},
        )
    session.execute(
        text(
            f"""UPDATE naming SET image_id = pair.kept FROM {_PAIR} WHERE naming.image_id = pair.fresh
                AND NOT EXISTS (SELECT FROM naming AS own
                    WHERE own.job_id = naming.job_id AND own.image_id = pair.kept)"""  # noqa: S608  (constants)
        ),
        pairs,
    )
    session.execute(
        text(
            f"""UPDATE skip SET image_ids = skip.image_ids - renamed.fresh + renamed.kept FROM (
                    SELECT skip.id, range_agg(int8range(pair.fresh, pair.fresh, '[]')) AS fresh,
                        range_agg(int8range(pair.kept, pair.kept, '[]')) AS kept
                    FROM skip JOIN {_PAIR} ON skip.image_ids @> pair.fresh WHERE job_id = ANY(:job_ids) GROUP BY skip.id
                ) AS renamed WHERE skip.id = renamed.id"""  # noqa: S608  (constants)
        ),
        {**pairs, "job_ids": list(job_ids)},
    )


def _rename(session: Session, places: Sequence[dict[str, object]]) -> None:
    session.execute(
        text(
            """UPDATE image SET key = :key, version = :version, size = :size, modified_at = :modified_at,
               missing_since = :missing_since WHERE id = :kept"""
        ),
        list(places),
    )
    session.execute(text("DELETE FROM content WHERE image_id = ANY(:ids)"), {"ids": [row["kept"] for row in places]})
    if read := [row for row in places if row["read"] is not None]:
        values = text(
            """INSERT INTO content (image_id, version, hash, shape, pixels)
               VALUES (:kept, :read, :hash, :shape, :pixels)"""
        )
        session.execute(values, read)


def _count_again(session: Session, located: Iterable[int], read: Iterable[int]) -> None:
    """Find again what search finds in images: their results were replaced, or people's corrections came to them."""
    if ids := sorted(located):
        regions.count_again(session, ids)
    for image_id in sorted(read):
        readings.note_changes(session, image_id)

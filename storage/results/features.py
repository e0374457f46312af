"""Stored features: the file and row of each image, and data for jobs that compute new tags from them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select, text

from storage.results import teachings
from storage.tables import PRECISIONS, Generation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from storage.results.teachings import Basis


_SMALL_SPAN = 200_000
"""Of fewer numbers between the first and the last image, all are looked at; of more, random ones."""
_DRAWS = 8


@dataclass(frozen=True, slots=True)
class NewFile:
    """A new file, and the generation and kind of its rows."""

    kind: str
    name: str
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Kept:
    """Stored data of one image under one generation.

    Attributes:
        version: of the object that it was computed from.
        captioner: the author of the caption.
        vector: packed float16.
        tags: ids of the recorded tags.
        scores: theirs, in units of 1 / ``SCORE_SCALE``.
        basis: what the vocabulary of these tags is made of.
        file: file of its tokens or pooled features; None if there are none, or they are of another version.
        position: their row in it.
        sha256: of the bytes that it was computed from; None: not known.
        precision: its number format, one of ``PRECISIONS``; None: not known.
    """

    version: str
    caption: str | None
    captioner: str
    width: int
    height: int
    vector: bytes
    tags: list[int]
    scores: list[int]
    basis: Basis
    file: str | None
    position: int | None
    sha256: bytes | None
    precision: str | None


@dataclass(frozen=True, slots=True)
class Stock:
    """Number of images of one archive that a generation has recorded, and number of those with stored features.

    These are tokens or pooled features, of which other tags can be computed.
    """

    archive_id: int
    images: int
    with_features: int


# What is kept depends on the weights, not on the tags: it may have been computed under any generation of a model.
_OF_SAME_WEIGHTS = """
    SELECT feature_file.name, feature.position FROM feature JOIN feature_file ON feature_file.id = feature.file_id
    WHERE feature.image_id = {record}.image_id AND feature.version = {record}.version
      AND feature.generation_id = ANY(:same_weights) AND feature_file.kind IN ('tokens', 'pooled')
    ORDER BY feature.generation_id DESC LIMIT 1"""


def same_weights(session: Session, generation_id: int) -> list[int]:
    """Return the generations of recognition with the same model and weights as this one, with whatever tags."""
    rows = session.execute(
        text(
            """SELECT other.id FROM generation AS own JOIN generation AS other USING (stage, model, weights_sha256)
               WHERE own.id = :id ORDER BY other.id"""
        ),
        {"id": generation_id},
    )
    return list(rows.scalars())


def link(session: Session, generation_id: int, file: NewFile, rows: Mapping[int, tuple[int, str]]) -> None:
    """Record where the features of images are: image id to (position in the file, version). Replaces older entries."""
    file_id = _add_file(session, generation_id, file)
    ids = sorted(rows)
    session.execute(
        text(
            """
            INSERT INTO feature (image_id, generation_id, file_id, position, version)
            SELECT image_id, :generation_id, :file_id, position, version
            FROM unnest(CAST(:ids AS bigint[]), CAST(:positions AS int[]), CAST(:versions AS text[]))
                AS fresh (image_id, position, version) ORDER BY image_id
            ON CONFLICT (image_id, generation_id) DO UPDATE
            SET file_id = excluded.file_id, position = excluded.position, version = excluded.version
            """
        ),
        {
            "generation_id": generation_id,
            "file_id": file_id,
            "ids": ids,
            "positions": [rows[image_id][0] for image_id in ids],
            "versions": [rows[image_id][1] for image_id in ids],
        },
    )


def _add_file(session: Session, generation_id: int, file: NewFile) -> int:
    added: int = session.execute(
        text(
            """INSERT INTO feature_file (generation_id, kind, name, rows, size_bytes)
               VALUES (:generation_id, :kind, :name, :rows, :size_bytes) RETURNING id"""
        ),
        {
            "generation_id": generation_id,
            "kind": file.kind,
            "name": file.name,
            "rows": file.rows,
            "size_bytes": file.size_bytes,
        },
    ).scalar_one()
    return added


def kept(session: Session, generation_id: int, image_ids: Sequence[int]) -> dict[int, Kept]:
    """Return the stored data of these images, by id. Images without a record are omitted."""
    vocabulary_id = session.scalars(select(Generation.vocabulary_id).where(Generation.id == generation_id)).one()
    made_of = teachings.basis(session, vocabulary_id)
    rows = session.execute(
        text(
            f"""
            SELECT record.image_id, record.version, record.caption, record.captioner, record.width, record.height,
                record.tags, record.scores, vector.v, kept.name, kept.position, record.sha256, record.precision
            FROM record JOIN vector USING (image_id, generation_id)
            LEFT JOIN LATERAL ({_OF_SAME_WEIGHTS.format(record="record")}) AS kept ON true
            WHERE record.generation_id = :generation_id AND record.image_id = ANY(:ids)
            """  # noqa: S608  (constants)
        ),
        {
            "generation_id": generation_id,
            "ids": list(image_ids),
            "same_weights": same_weights(session, generation_id),
        },
    )
    return {
        row.image_id: Kept(
            version=row.version,
            caption=row.caption,
            captioner=row.captioner,
            width=row.width,
            height=row.height,
            vector=row.v,
            tags=row.tags,
            scores=row.scores,
            basis=made_of,
            file=row.name,
            position=row.position,
            sha256=row.sha256,
            precision=None if row.precision is None else PRECISIONS[row.precision],
        )
        for row in rows
    }


def stock(session: Session, generation_id: int) -> list[Stock]:
    """Count, for each archive, the images that a generation has recorded and those with stored features."""
    rows = session.execute(
        text(
            f"""
            SELECT image.archive_id, count(*) AS images,
                count(*) FILTER (WHERE EXISTS ({_OF_SAME_WEIGHTS.format(record="record")})) AS with_features
            FROM record JOIN image ON image.id = record.image_id
            WHERE record.generation_id = :generation_id GROUP BY image.archive_id ORDER BY image.archive_id
            """  # noqa: S608  (constants)
        ),
        {"generation_id": generation_id, "same_weights": same_weights(session, generation_id)},
    )
    return [Stock(row.archive_id, int(row.images), int(row.with_features)) for row in rows]


@dataclass(frozen=True, slots=True)
class RecordedPage:
    """Some images that a generation has recorded, in order of their ids, and those that need new tags."""

    ids: list[int]
    pending: list[int]


def recorded_page(  # noqa: PLR0913  (the conditions of one query)
    session: Session,
    *,
    archive_id: int,
    prefix: str,
    from_generation_id: int,
    generation_id: int,
    needs_features: bool,
    after: int,
    limit: int,
) -> RecordedPage:
    """Return the next images that can get new tags, and those that have none of the same version yet."""
    rows = session.execute(
        text(
            f"""
            SELECT source.image_id, EXISTS (
                SELECT FROM record AS target WHERE target.generation_id = :generation_id
                AND target.image_id = source.image_id AND target.version = source.version) AS is_done
            FROM record AS source JOIN image ON image.id = source.image_id
            WHERE source.generation_id = :from_generation_id AND source.image_id > :after
              AND image.archive_id = :archive_id AND starts_with(image.key, :prefix)
              AND (NOT :needs_features OR EXISTS ({_OF_SAME_WEIGHTS.format(record="source")}))
            ORDER BY source.image_id LIMIT :limit
            """  # noqa: S608  (constants)
        ),
        {
            "archive_id": archive_id,
            "prefix": prefix,
            "from_generation_id": from_generation_id,
            "generation_id": generation_id,
            "needs_features": needs_features,
            "same_weights": same_weights(session, from_generation_id),
            "after": after,
            "limit": limit,
        },
    ).all()
    return RecordedPage([row.image_id for row in rows], [row.image_id for row in rows if not row.is_done])


def recorded(session: Session, generation_id: int) -> int:
    """Return the number of images that a generation has recorded."""
    statement = text("SELECT count(*) FROM record WHERE generation_id = :id")
    return int(session.execute(statement, {"id": generation_id}).scalar_one())


def sample(session: Session, generation_id: int, count: int) -> list[int]:
    """Return ids of images that a generation has recorded, taken at random, ascending. The same ones each time.

    It looks at a few times as many rows as it returns, however many there are, unless their numbers have large gaps.
    """
    bounds = session.execute(
        text("SELECT min(image_id) AS lowest, max(image_id) AS highest FROM record WHERE generation_id = :id"),
        {"id": generation_id},
    ).one()
    if bounds.lowest is None:
        return []
    every, found = range(bounds.lowest, bounds.highest + 1), set[int]()
    draw = random.Random(0)  # noqa: S311  (no secret: the same images each time)
    for _ in range(_DRAWS):
        ids = every if len(every) <= _SMALL_SPAN else draw.sample(every, min(4 * count, len(every)))
        present = session.execute(
            text("SELECT image_id FROM record WHERE generation_id = :id AND image_id = ANY(:ids)"),
            {"id": generation_id, "ids": list(ids)},
        )
        found.update(present.scalars())
        if len(found) >= count or ids is every:
            return sorted(draw.sample(sorted(found), min(count, len(found))))
    # Few of the numbers in between are in this generation. Each gets a place by a hash, and the first ones are taken.
    rows = session.execute(
        text(
            """SELECT image_id FROM record WHERE generation_id = :id
               ORDER BY hashint8extended(image_id, 0), image_id LIMIT :count"""
        ),
        {"id": generation_id, "count": count},
    )
    return sorted(rows.scalars())


# File maintenance --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DyingFile:
    """A file with some rows that are no longer needed."""

    id: int
    generation_id: int
    kind: str
    name: str


def dying_files(session: Session, dead_share: float) -> list[DyingFile]:
    """Return the files in which more than this share of the rows has no owner."""
    rows = session.execute(
        text(
            """
            SELECT file.id, file.generation_id, file.kind, file.name FROM feature_file AS file
            WHERE file.retired_at IS NULL AND file.rows * (1 - CAST(:dead_share AS float8)) >
                (SELECT count(*) FROM feature WHERE feature.file_id = file.id) ORDER BY file.id
            """
        ),
        {"dead_share": dead_share},
    )
    return [DyingFile(row.id, row.generation_id, row.kind, row.name) for row in rows]


def rows_of(session: Session, file_id: int) -> list[tuple[int, int, str]]:
    """Return (image id, position, version) of the needed rows of a file."""
    rows = session.execute(
        text("SELECT image_id, position, version FROM feature WHERE file_id = :id ORDER BY image_id"), {"id": file_id}
    )
    return [(row.image_id, row.position, row.version) for row in rows]


def replace_file(session: Session, old: DyingFile, new: NewFile | None, positions: Mapping[int, int]) -> None:
    """Move the needed rows of ``old`` to these positions (by image id) in ``new``. Retire ``old``."""
    if new is not None:
        file_id = _add_file(session, old.generation_id, new)
        session.execute(
            text(
                """
                UPDATE feature SET file_id = :file_id, position = moved.position
                FROM unnest(CAST(:ids AS bigint[]), CAST(:positions AS int[])) AS moved (image_id, position)
                WHERE feature.image_id = moved.image_id AND feature.generation_id = :generation_id
                  AND feature.file_id = :old_id
                """
            ),
            {
                "file_id": file_id,
                "old_id": old.id,
                "generation_id": old.generation_id,
                "ids": list(positions),
                "positions": list(positions.values()),
            },
        )
    session.execute(text("UPDATE feature_file SET retired_at = now() WHERE id = :id"), {"id": old.id})


def retired_files(session: Session, grace_seconds: float) -> list[tuple[int, str]]:
    """Return (id, name) of files that were replaced so long ago that nobody reads them any more."""
    rows = session.execute(
        text(
            """SELECT id, name FROM feature_file AS file
               WHERE retired_at < now() - make_interval(secs => :grace_seconds)
               AND NOT EXISTS (SELECT FROM feature WHERE feature.file_id = file.id) ORDER BY id"""
        ),
        {"grace_seconds": grace_seconds},
    )
    return [(row.id, row.name) for row in rows]


def lose_file(session: Session, name: str) -> int:
    """Forget the rows of a file that is gone or damaged: their images lack features then. Return their number."""
    rows = session.execute(
        text("DELETE FROM feature USING feature_file AS file WHERE feature.file_id = file.id AND file.name = :name"),
        {"name": name},
    )
    session.execute(
        text("UPDATE feature_file SET retired_at = coalesce(retired_at, now()) WHERE name = :name"), {"name": name}
    )
    return int(rows.rowcount)  # type: ignore[attr-defined]  # a DELETE's result is a CursorResult


def archives_of(session: Session, generation_id: int, image_ids: Sequence[int]) -> list[str]:
    """Return the URIs of the archives that have these images of a generation, those with most of them first."""
    rows = session.execute(
        text(
            """SELECT archive.uri FROM record JOIN image ON image.id = record.image_id
               JOIN archive ON archive.id = image.archive_id
               WHERE record.generation_id = :id AND image.id = ANY(:ids)
               GROUP BY archive.uri ORDER BY count(*) DESC, 1"""
        ),
        {"id": generation_id, "ids": list(image_ids)},
    )
    return list(rows.scalars())


def forget_file(session: Session, file_id: int) -> None:
    """Delete the entry of a file that is being deleted."""
    session.execute(text("DELETE FROM feature_file WHERE id = :id"), {"id": file_id})


def known_names(session: Session, names: Sequence[str]) -> set[str]:
    """Return those of these files that are registered."""
    rows = session.execute(text("SELECT name FROM feature_file WHERE name = ANY(:names)"), {"names": list(names)})
    return set(rows.scalars())


def erase_generation(session: Session, generation_id: int) -> int:
    """Delete all features of a generation. Return the number of images."""
    values = {"id": generation_id}
    erased = session.execute(text("DELETE FROM feature WHERE generation_id = :id"), values)
    session.execute(text("DELETE FROM feature_file WHERE generation_id = :id"), values)
    return int(erased.rowcount)  # type: ignore[attr-defined]  # a DELETE's result is a CursorResult

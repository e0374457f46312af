"""Deletions: planned completely, carried out in chunks, and then verified in every table.

A chunk is done when nothing of its images is left here. Repeating a chunk does no harm. Therefore a deletion whose
process died can resume where it stopped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import select, text

from storage.results import (
    archives,
    crops,
    keyword_erasures,
    looks,
    metadata,
    openings,
    readings,
    regions,
    sidecars,
    teachings,
)
from storage.results import vectors as repository
from storage.results.erasure_views import DeletionView
from storage.results.lookup import uri_of
from storage.results.region_lists import BLOCK_BITS, RECORD
from storage.tables import Archive, Deletion, Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

IMAGES_AT_ONCE = 1_000
"""Images per chunk. A chunk is one transaction, and workers that write some of its images wait for it."""

TABLES = (
    "image",
    "content",
    "former_content",
    "merged_image",
    "near_copy",
    "record",
    "vector",
    "failure",
    "correction",
    "feature",
    "naming",
    "reading",
    "reading_index",
    "line_correction",
    "localization",
    "located_image",
    "region_correction",
    "cropping",
    "crop",
    "look",
    "metadata",
    "keyword",
    "keyword_said",
    "opening",
    "dataset_item",
    "dataset_label",
    "dataset_review",
)
"""Tables that may refer to an image. Two have no column for it: see ``_IN_LISTS`` and ``_IN_HEADS``."""

_IN_LISTS = f"""
    SELECT count(*) FROM deletion_part AS part CROSS JOIN unnest(part.image_ids) AS stretch
    CROSS JOIN generate_series(lower(stretch) >> {BLOCK_BITS}, (upper(stretch) - 1) >> {BLOCK_BITS}) AS own
    JOIN region_list ON block = own
    CROSS JOIN generate_series(0, octet_length(packed) - 1, {RECORD.itemsize}) AS at
    WHERE part.deletion_id = :id AND (own << {BLOCK_BITS}) + get_byte(packed, at) <@ stretch
"""  # noqa: S608  (constants)

_IN_HEADS = """
    SELECT count(*) FROM deletion_part AS part CROSS JOIN unnest(part.image_ids) AS stretch
    JOIN (SELECT unnest(yes || no) AS image_id FROM head) AS taught
        ON taught.image_id >= lower(stretch) AND taught.image_id < upper(stretch)
    WHERE part.deletion_id = :id
"""


@dataclass(frozen=True, slots=True)
class Erased:
    """Number of deleted rows of each kind, and the feature files that have rows without an owner now."""

    images: int
    records: int
    vectors: int
    failures: int
    corrections: int
    features: int
    readings: int
    localizations: int
    crops: int
    looks: int
    metadata: int
    keywords: int
    dataset_items: int
    dataset_labels: int
    dataset_reviews: int
    feature_files: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DeletionChunk:
    """Some images of a deletion."""

    deletion_id: int
    number: int
    image_ids: list[int]


def erase(session: Session, image_ids: Sequence[int], *, forgets_names: bool = True) -> Erased:
    """Erase images: records, vectors, failures, corrections, keywords, the text and the regions in them, and the keys.

    The index is told to forget them.

    Shards keep the ids (bare numbers), so that the counters of their jobs stay right.

    ``forgets_names``: also forget the keys where data sets name what they left out, acts on keywords that were about
    these images, and what sidecars beside them say. Without it, another image takes the keys.
    """
    ids = {"ids": list(image_ids)}

    def count(statement: str) -> int:
        return int(session.execute(text(statement), ids).rowcount)  # type: ignore[attr-defined]

    teachings.lock(session)
    # A task of a data set locks its version before its images, so this must do the same.
    if forgets_names:
        _forget_names(session, image_ids)
    # A listing locks the archive before its images, so this must do the same.
    held = select(Image.archive_id).where(Image.id.in_(image_ids)).distinct()
    archives.lock(session, list(session.scalars(held)))
    # Lock first and in order, as workers do: a batch in progress then either commits before or skips the images.
    session.execute(text("SELECT id FROM image WHERE id = ANY(:ids) ORDER BY id FOR UPDATE"), ids)
    for table in ("content", "former_content", "merged_image", "near_copy"):
        session.execute(text(f"DELETE FROM {table} WHERE image_id = ANY(:ids)"), ids)  # noqa: S608  (constants)
    vectors = repository.erase(session, image_ids)
    recorded = count("DELETE FROM record WHERE image_id = ANY(:ids)")
    failures = count("DELETE FROM failure WHERE image_id = ANY(:ids)")
    corrections = count("DELETE FROM correction WHERE image_id = ANY(:ids)")
    files = session.scalars(text("DELETE FROM feature WHERE image_id = ANY(:ids) RETURNING file_id"), ids).all()
    session.execute(text("DELETE FROM naming WHERE image_id = ANY(:ids)"), ids)
    read, located = readings.erase(session, image_ids), regions.erase(session, image_ids)
    cropped, looked = crops.erase(session, image_ids), looks.erase(session, image_ids)
    told = metadata.erase(session, image_ids)
    given = keyword_erasures.erase(session, image_ids, forgets_acts=forgets_names)
    openings.erase(session, image_ids)
    if forgets_names:
        sidecars.erase(session, image_ids)
    teachings.forget(session, image_ids)
    tables = ("dataset_item", "dataset_label", "dataset_review")
    in_sets = [count(f"DELETE FROM {table} WHERE image_id = ANY(:ids)") for table in tables]  # noqa: S608  (constants)
    images = count("DELETE FROM image WHERE id = ANY(:ids)")
    return Erased(
        images,
        recorded,
        vectors,
        failures,
        corrections,
        len(files),
        read,
        located,
        cropped,
        looked,
        told,
        given,
        in_sets[0],
        in_sets[1],
        in_sets[2],
        tuple(sorted(set(files))),
    )


def _forget_names(session: Session, image_ids: Sequence[int]) -> None:
    """Forget the names of images in the versions of data sets that name what they left out.

    Files name images by key, URI, path, a path below a folder, or any of these without its ending. So a name is
    forgotten if the URI of an image, with or without its ending, ends in it.
    """
    told = session.execute(
        text(
            """SELECT id, counts -> 'left_out_names' AS names FROM dataset_version
               WHERE jsonb_array_length(coalesce(counts -> 'left_out_names', '[]')) > 0"""
        )
    ).all()
    if not told:
        return
    rows = session.execute(
        text("SELECT uri, key FROM image JOIN archive ON archive.id = archive_id WHERE image.id = ANY(:ids)"),
        {"ids": list(image_ids)},
    )
    gone: set[str] = set()
    for uri, key in rows:
        for whole in (uri_of(uri, key), uri_of(uri, key.rpartition(".")[0] or key)):
            gone.add(whole)
            slashes = [at for at, sign in enumerate(whole) if sign == "/"]
            # The slash belongs to the name of /data/a.jpg, and not to that of a.jpg below /data.
            gone.update(whole[start:] for at in slashes for start in (at, at + 1))
    for version_id, names in told:
        left = [name for name in names if name.removeprefix("./") not in gone]
        if len(left) < len(names):
            session.execute(
                text(
                    """UPDATE dataset_version SET counts = jsonb_set(counts, '{left_out_names}', CAST(:left AS jsonb))
                       WHERE id = :id"""
                ),
                {"id": version_id, "left": json.dumps(left)},
            )


def plan(session: Session, deletion: Deletion, image_ids: Sequence[int], *, keeps_keys: bool = False) -> int:
    """Record which images to delete, and return the deletion's id.

    Args:
        session: a transaction.
        deletion: the request and its author; the number of images and their hash are filled in here.
        image_ids: existing images.
        keeps_keys: keep their keys for the report; no other place has them then.
    """
    ids = np.unique(np.array(image_ids, dtype=np.int64))
    deletion.images, deletion.sha256 = len(ids), hash_of(ids)
    session.add(deletion)
    session.flush()
    for number, start in enumerate(range(0, len(ids), IMAGES_AT_ONCE)):
        session.execute(
            text(
                """
                INSERT INTO deletion_part (deletion_id, number, image_ids, keys) SELECT :deletion_id, :number,
                    (SELECT range_agg(int8range(id, id, '[]')) FROM unnest(CAST(:ids AS bigint[])) AS id),
                    CASE WHEN :keeps_keys THEN
                        ARRAY(SELECT key FROM image WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY id) END
                """
            ),
            {
                "deletion_id": deletion.id,
                "number": number,
                "ids": ids[start : start + IMAGES_AT_ONCE].tolist(),
                "keeps_keys": keeps_keys,
            },
        )
    return deletion.id


def hash_of(image_ids: NDArray[np.int64]) -> str:
    """Return the SHA-256 of ascending ids, one a line."""
    return sha256("".join(f"{image_id}\n" for image_id in image_ids.tolist()).encode()).hexdigest()


def unfinished(session: Session, request_sha256: str) -> int | None:
    """Return the deletion that the same request started and whose process died; None if there is none."""
    return session.scalar(
        select(Deletion.id)
        .where(Deletion.request_sha256 == request_sha256, Deletion.finished_at.is_(None))
        .order_by(Deletion.id)
        .limit(1)
    )


def next_part(session: Session, deletion_id: int) -> DeletionChunk | None:
    """Return the next images to delete; None if all are deleted. The deletion is locked meanwhile."""
    session.execute(text("SELECT id FROM deletion WHERE id = :id FOR UPDATE"), {"id": deletion_id})
    row = session.execute(
        text(
            """SELECT number, ARRAY(SELECT generate_series(lower(r), upper(r) - 1) FROM unnest(image_ids) AS r) AS ids
               FROM deletion_part WHERE deletion_id = :id AND NOT is_done ORDER BY number LIMIT 1"""
        ),
        {"id": deletion_id},
    ).one_or_none()
    return None if row is None else DeletionChunk(deletion_id, row.number, row.ids)


def note(session: Session, deletion_id: int, counts: dict[str, int], feature_files: Sequence[int] = ()) -> None:
    """Add the number of deleted rows to the counters of a deletion."""
    deletion = session.get_one(Deletion, deletion_id, with_for_update=True)
    deletion.counts = {name: deletion.counts.get(name, 0) + counts.get(name, 0) for name in deletion.counts | counts}
    deletion.feature_files = sorted({*deletion.feature_files, *feature_files})
    session.flush()


def close_part(session: Session, part: DeletionChunk) -> None:
    """Mark a chunk as done: nothing of its images is left."""
    session.execute(
        text("UPDATE deletion_part SET is_done = true WHERE deletion_id = :id AND number = :number"),
        {"id": part.deletion_id, "number": part.number},
    )


def finish(session: Session, deletion_id: int) -> None:
    """Mark a deletion as finished: all its images are deleted here."""
    session.execute(
        text("UPDATE deletion SET finished_at = clock_timestamp() WHERE id = :id AND finished_at IS NULL"),
        {"id": deletion_id},
    )


def views(session: Session, deletion_id: int | None = None) -> list[DeletionView]:
    """Return every deletion, or one of them, oldest first."""
    statement = select(Deletion, Archive.uri).outerjoin(Archive, Archive.id == Deletion.archive_id)
    if deletion_id is not None:
        statement = statement.where(Deletion.id == deletion_id)
    return [
        DeletionView(
            id=row.id,
            kind=row.kind,
            archive=uri,
            said_by=row.said_by,
            begun_at=row.begun_at,
            finished_at=row.finished_at,
            images=row.images,
            sha256=row.sha256,
            erased=row.counts,
        )
        for row, uri in session.execute(statement.order_by(Deletion.id))
    ]


def ids(session: Session, deletion_id: int) -> NDArray[np.int64]:
    """Return the ids of all images of a deletion, ascending."""
    rows = session.execute(
        text(
            """SELECT lower(r), upper(r) FROM deletion_part, unnest(image_ids) AS r WHERE deletion_id = :id
               ORDER BY lower(r)"""
        ),
        {"id": deletion_id},
    )
    stretches: list[NDArray[Any]] = [np.arange(lower, upper, dtype=np.int64) for lower, upper in rows]
    return np.concatenate([np.empty(0, dtype=np.int64), *stretches])


def keys(session: Session, deletion_id: int) -> list[str] | None:
    """Return the keys of the images in order of their ids; None if they were not kept."""
    rows = session.scalars(
        text("SELECT keys FROM deletion_part WHERE deletion_id = :id ORDER BY number"), {"id": deletion_id}
    ).all()
    return None if None in rows else [key for part in rows for key in part]


def left(session: Session, deletion_id: int) -> dict[str, int]:
    """Count, by table, the rows that refer to an image of a deletion."""
    counts = {}
    for table in TABLES:
        column = "id" if table == "image" else "image_id"
        found = session.scalar(
            text(
                f"""SELECT count(*) FROM deletion_part AS part, unnest(part.image_ids) AS stretch
                    JOIN {table} ON {table}.{column} >= lower(stretch) AND {table}.{column} < upper(stretch)
                    WHERE part.deletion_id = :id"""  # noqa: S608  (constants only)
            ),
            {"id": deletion_id},
        )
        counts[table] = int(found or 0)
    counts |= keyword_erasures.left(session, deletion_id)
    counts["head"] = int(session.scalar(text(_IN_HEADS), {"id": deletion_id}) or 0)
    counts["region_list"] = int(session.scalar(text(_IN_LISTS), {"id": deletion_id}) or 0)
    return counts


def feature_files(session: Session, deletion_id: int) -> list[str]:
    """Return the known feature files that had a row of an image of a deletion. Files never change."""
    rows = session.scalars(
        text(
            """SELECT file.name FROM deletion JOIN feature_file AS file ON file.id = ANY(deletion.feature_files)
               WHERE deletion.id = :id ORDER BY file.name"""
        ),
        {"id": deletion_id},
    )
    return list(rows)

"""Listed keys, written one page at a time by COPY."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select, text

from storage.database import driver_connection
from storage.errors import NotFoundError
from storage.objects.base import INODE, MISSING_VERSION
from storage.results import archives, file_pages, vectors
from storage.results.features import RecordedPage
from storage.tables import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from storage.objects.base import ObjectInfo


def missing(session: Session) -> tuple[int, ...]:
    """Return the ids, ascending, of the images whose originals the last listing did not find."""
    return tuple(session.scalars(select(Image.id).where(Image.missing_since.is_not(None)).order_by(Image.id)))


@dataclass(frozen=True, slots=True)
class ImageKey:
    """What a worker needs to fetch an image."""

    id: int
    key: str
    version: str
    size_bytes: int


def upsert_page(session: Session, archive_id: int, page: Sequence[ObjectInfo], *, ranges_of: int | None = None) -> None:
    """Record a page of a listing: add new keys, update changed versions, leave the rest.

    An unknown version does not replace a known one, nor does that of a file one that also has the time of its inode.
    Keys that are found again are no longer missing.
    The page stays in the temporary table ``listed`` for the rest of the transaction.

    Args:
        session: the transaction of the page.
        archive_id: the listed archive.
        page: the keys.
        ranges_of: the job whose planners list other ranges of keys at the same time; None: the archive is locked.
    """
    if ranges_of is None:
        archives.lock(session, [archive_id])
    else:
        archives.share(session, archive_id, ranges_of)
    session.execute(
        text(
            "CREATE TEMP TABLE IF NOT EXISTS listed "
            '(key text COLLATE "C", version text, size bigint, modified_at timestamptz) ON COMMIT DELETE ROWS'
        )
    )
    session.execute(text("TRUNCATE listed"))
    with (
        driver_connection(session).cursor() as cursor,
        cursor.copy("COPY listed (key, version, size, modified_at) FROM STDIN") as copy,
    ):
        for info in page:
            copy.write_row((info.key, info.version, info.size_bytes, info.modified_at))
    written = session.execute(
        text(
            """
            INSERT INTO image (id, archive_id, key, version, size, modified_at, missing_since)
            SELECT id, :archive_id, key, version, size, modified_at, CASE WHEN version = :missing THEN now() END
            FROM (
                -- All ids are taken before the first row is written. Taken one by one, they would alternate with those
                -- of other planners, and a row of ``skip`` would have a range for each image.
                SELECT nextval('image_id_seq') AS id, * FROM (
                    SELECT * FROM (
                        SELECT DISTINCT ON (key) key, version, size, modified_at FROM listed ORDER BY key
                    ) AS page
                    -- A conflict locks the row, which writes to its page and to the log even if nothing changes. As a
                    -- join, this could read the whole archive for a page.
                    WHERE version IS DISTINCT FROM (
                        SELECT image.version FROM image
                        WHERE image.archive_id = :archive_id AND image.key = page.key AND image.missing_since IS NULL)
                    ORDER BY key
                ) AS changed OFFSET 0
            ) AS numbered ORDER BY id
            ON CONFLICT (archive_id, key) DO UPDATE
            SET version = excluded.version, size = excluded.size, modified_at = excluded.modified_at,
                missing_since = CASE WHEN excluded.version = :missing THEN coalesce(image.missing_since, now()) END
            WHERE excluded.version <> ''
              AND ((image.version <> excluded.version AND NOT starts_with(image.version, excluded.version || :inode))
                   OR (image.missing_since IS NOT NULL AND excluded.version <> :missing))
            RETURNING id, xmax <> 0 AS was_known
            """
        ),
        {"archive_id": archive_id, "missing": MISSING_VERSION, "inode": INODE},
    )
    # The index shows dates and sizes. (A new row has no xmax, an updated one has that of the lock on its predecessor.)
    vectors.touch(session, [row.id for row in written if row.was_known])


def versions(session: Session, archive_id: int, keys: Sequence[str]) -> dict[str, str]:
    """Return the versions in which keys of an archive are known. Keys that are not are left out."""
    known = select(Image.key, Image.version).where(Image.archive_id == archive_id, Image.key.in_(keys))
    return {row.key: row.version for row in session.execute(known)}


def ids_of_page(session: Session, archive_id: int) -> list[int]:
    """Return, in key order, the images of the page in ``listed``."""
    rows = session.execute(
        text(
            """SELECT image.id FROM (SELECT DISTINCT key FROM listed) AS page
               JOIN image ON image.archive_id = :archive_id AND image.key = page.key ORDER BY page.key"""
        ),
        {"archive_id": archive_id},
    )
    return list(rows.scalars())


def existing(session: Session, archive_id: int, keys: Sequence[str]) -> set[str]:
    """Return those of ``keys`` that are known and were not missing when they were last listed."""
    there = select(Image.key).where(Image.archive_id == archive_id, Image.key.in_(keys), Image.missing_since.is_(None))
    return set(session.scalars(there))


def settled(session: Session, archive_id: int, generation_id: int, keys: Sequence[str]) -> dict[str, str]:
    """Return those of ``keys`` that may not need recognising, depending on whether their objects changed.

    Each with the version in which it is known.
    """
    rows = session.execute(
        text(
            """
            SELECT key, version FROM image WHERE archive_id = :archive_id AND key = ANY(:keys) AND (
                EXISTS (SELECT FROM record r WHERE r.image_id = image.id AND r.generation_id = :generation_id)
                OR EXISTS (SELECT FROM failure f WHERE f.image_id = image.id AND f.generation_id = :generation_id
                           AND f.about_content)
            )
            """
        ),
        {"archive_id": archive_id, "generation_id": generation_id, "keys": list(keys)},
    )
    return {row.key: row.version for row in rows}


IS_PENDING = """
    NOT EXISTS (
        SELECT FROM record r WHERE r.image_id = image.id AND r.generation_id = :generation_id
        AND r.version = image.version AND (:captioner = 'none' OR r.captioner = :captioner)
        AND (:features IN ('none', 'auto') OR EXISTS (
            SELECT FROM feature JOIN feature_file ON feature_file.id = feature.file_id
            WHERE feature.image_id = r.image_id AND feature.generation_id = :generation_id
            AND feature.version = r.version AND feature_file.kind IN ('tokens', :features)))
    ) AND NOT EXISTS (
        SELECT FROM failure f WHERE f.image_id = image.id AND f.generation_id = :generation_id
        AND f.version = image.version AND f.about_content AND NOT f.retrying
    )
"""
"""Whether an ``image`` still has to be recognised by ``generation_id``, with a caption of ``captioner`` and with
``features`` (``none``, ``global``, ``tokens``, ``pooled``, or ``auto``: with any or none).

This excludes images with a record of the same version, generation and captioner and with the wanted features. It also
excludes images whose current bytes were found unusable before.
"""


def pending_of_page(
    session: Session,
    archive_id: int,
    generation_id: int,
    captioner: str,
    features: str = "none",
    *,
    counts_pages: bool = False,
) -> list[int]:
    """Return, in key order, the images of the page in ``listed`` that still have to be recognised: ``IS_PENDING``.

    With ``counts_pages`` also those whose pages have to be counted.
    """
    wanted = f"({IS_PENDING} OR {file_pages.NOT_COUNTED})" if counts_pages else IS_PENDING
    rows = session.execute(
        text(
            f"""SELECT image.id FROM (SELECT DISTINCT key FROM listed) AS page
                JOIN image ON image.archive_id = :archive_id AND image.key = page.key
                WHERE {wanted} ORDER BY page.key"""  # noqa: S608  (constants)
        ),
        {"archive_id": archive_id, "generation_id": generation_id, "captioner": captioner, "features": features},
    )
    return list(rows.scalars())


def named_page(  # noqa: PLR0913  (the conditions of one query)
    session: Session, *, job_id: int, generation_id: int, captioner: str, features: str, after: int, limit: int
) -> RecordedPage:
    """Return the next images that a job has named (table ``naming``), in order of their ids, and the pending ones.

    Images whose originals are missing are left out.
    """
    rows = session.execute(
        text(
            f"""SELECT image.id, {IS_PENDING} AS is_pending FROM naming JOIN image ON image.id = naming.image_id
                WHERE naming.job_id = :job_id AND naming.image_id > :after AND image.missing_since IS NULL
                ORDER BY naming.image_id LIMIT :limit"""  # noqa: S608  (a constant)
        ),
        {
            "job_id": job_id,
            "generation_id": generation_id,
            "captioner": captioner,
            "features": features,
            "after": after,
            "limit": limit,
        },
    ).all()
    return RecordedPage([row.id for row in rows], [row.id for row in rows if row.is_pending])


def lock(session: Session, image_ids: Sequence[int]) -> None:
    """Wait for workers that write these images: what they commit later must have people's new corrections.

    Raises:
        NotFoundError: one of them does not exist.
    """
    storable = [image_id for image_id in image_ids if image_id < 2**63]
    rows = session.execute(text("SELECT id FROM image WHERE id = ANY(:ids) ORDER BY id FOR UPDATE"), {"ids": storable})
    lost = sorted(set(image_ids) - set(rows.scalars()))
    if lost:
        raise NotFoundError(f"there is no image {lost[0]}")


def by_archive(session: Session, image_ids: Sequence[int]) -> dict[tuple[int, str], list[int]]:
    """Return these images by (archive id, the empty prefix), ids ascending. Deleted ones are omitted."""
    rows = session.execute(
        text(
            """SELECT archive_id, array_agg(id ORDER BY id) AS ids FROM image WHERE id = ANY(:ids)
               GROUP BY archive_id ORDER BY archive_id"""
        ),
        {"ids": list(image_ids)},
    )
    return {(row.archive_id, ""): list(row.ids) for row in rows}


def keys_by_archive(session: Session, image_ids: Sequence[int]) -> dict[int, list[str]]:
    """Return the keys of images by archive id."""
    found: dict[int, list[str]] = {}
    for archive_id, key in session.execute(select(Image.archive_id, Image.key).where(Image.id.in_(image_ids))):
        found.setdefault(archive_id, []).append(key)
    return found


def keys(session: Session, image_ids: Sequence[int]) -> dict[int, ImageKey]:
    """Return the data to fetch these images, by id. Deleted ones are omitted."""
    rows = driver_connection(session).execute(
        "SELECT id, key, version, size FROM image WHERE id = ANY(CAST(%(ids)b AS bigint[]))",
        {"ids": list(image_ids)},
        prepare=True,
    )
    return {row[0]: ImageKey(*row) for row in rows}

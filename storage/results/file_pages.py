"""Pages of files as images: how many a file is known to have, and which are gone.

The caller holds the lock of the archive: see ``images.upsert_page``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.objects.base import ObjectInfo
from storage.objects.pages import IS_FURTHER_PAGE_OF, IS_PAGE, file_of, number_of
from storage.texts import other_forms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

NOT_COUNTED = f"""(
    image.key ~* '[.](tiff?|pdf)$' AND NOT {IS_PAGE}
    AND NOT EXISTS (SELECT FROM opening WHERE opening.image_id = image.id AND opening.version = image.version
        AND opening.pages IS NOT NULL)
    AND NOT EXISTS (SELECT FROM failure JOIN job ON job.id = failure.job_id
        WHERE failure.image_id = image.id AND failure.version = image.version AND failure.about_content
        AND NOT failure.retrying AND job.options -> 'pages' IS NOT NULL)
)"""  # noqa: S608  (constants)
"""Whether the pages of an ``image`` were never counted: it was recognised, or refused, by a job without pages, or by an
earlier version of ramq. Its name is that of a file that may have several."""


def counts(session: Session, archive_id: int, keys: Sequence[str]) -> dict[str, int]:
    """Return how many pages these files have, by key: of those that were counted and have several."""
    rows = session.execute(
        text(
            """SELECT image.key, opening.pages FROM image JOIN opening ON opening.image_id = image.id
               WHERE image.archive_id = :archive_id AND image.key = ANY(:keys) AND opening.pages > 1
                 AND opening.version = image.version"""
        ),
        {"archive_id": archive_id, "keys": list(keys)},
    )
    return {row.key: row.pages for row in rows}


def settled_counts(session: Session, archive_id: int, pending: Sequence[int]) -> dict[str, int]:
    """Return the same of the files of the page in ``listed`` (see ``images.upsert_page``) that are not ``pending``.

    Whoever opens a pending file counts its pages again.
    """
    rows = session.execute(
        text(
            """SELECT image.key, opening.pages FROM listed
               JOIN image ON image.archive_id = :archive_id AND image.key = listed.key
               JOIN opening ON opening.image_id = image.id AND opening.version = image.version AND opening.pages > 1
               WHERE image.id <> ALL(CAST(:pending AS bigint[]))"""
        ),
        {"archive_id": archive_id, "pending": list(pending)},
    )
    return {row.key: row.pages for row in rows}


def files(session: Session, versions: Mapping[int, str]) -> dict[int, ObjectInfo]:
    """Return images as objects of their archive, by id, each in the version that was read."""
    rows = session.execute(
        text("SELECT id, key, size, modified_at FROM image WHERE id = ANY(:ids)"), {"ids": list(versions)}
    )
    return {row.id: ObjectInfo(row.key, versions[row.id], row.size, row.modified_at) for row in rows}


def had_pages(session: Session, image_ids: Sequence[int]) -> bool:
    """Return whether further pages of any of these files are known."""
    return bool(
        session.scalar(
            text(
                f"""SELECT EXISTS (SELECT FROM image AS file JOIN image ON image.archive_id = file.archive_id
                        AND {IS_FURTHER_PAGE_OF.format(key="file.key")}
                    WHERE file.id = ANY(:ids))"""  # noqa: S608  (constants)
            ),
            {"ids": list(image_ids)},
        )
    )


def mark_gone(session: Session, archive_id: int, last: Mapping[str, int]) -> int:
    """Mark pages as missing that files do not have any more: those behind the ``last`` one, by the key of the file.

    Return how many. With 1 all pages but the file itself are marked.
    """
    if not last:
        return 0
    result = session.execute(
        text(
            f"""UPDATE image SET missing_since = now()
                FROM unnest(CAST(:keys AS text[]), CAST(:last AS int[])) AS file (key, last)
                WHERE image.archive_id = :archive_id AND image.missing_since IS NULL AND {IS_PAGE}
                  AND image.key > file.key || '/page-' || lpad(CAST(file.last AS text), 5, '0') COLLATE "C"
                  AND image.key < file.key || '/page-:' COLLATE "C" """  # noqa: S608  (constants)
        ),
        {"archive_id": archive_id, "keys": list(last), "last": list(last.values())},
    )
    return int(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult


@dataclass(frozen=True, slots=True)
class PageView:
    """Which page of its file an image is.

    Attributes:
        page: its number, from 1; None: the file has one page, as far as is known.
        file_key: the key of the file.
        previous_page: the image of the page before, if there is one.
        next_page: that of the page behind.
        page_images: how many pages of the file are images, as far as they are not missing.
    """

    page: int | None
    file_key: str
    previous_page: int | None = None
    next_page: int | None = None
    page_images: int = 1


def view(session: Session, archive_id: int, key: str, version: str, pages: int | None) -> PageView:
    """Return which page of its file an image is. ``pages`` is how many the file has, as ``openings`` says.

    Its neighbours are the next images before and behind it: pages that were erased are passed over, and so are missing
    ones, unless the image itself is missing.
    """
    number, file_key = number_of(version), file_of(key, version)
    if number == 1 and not pages:
        return PageView(None, file_key)
    around = session.execute(
        text(
            f"""WITH page AS (
                    SELECT id, key, missing_since FROM image WHERE archive_id = :archive_id AND key = :file
                    UNION ALL
                    SELECT id, key, missing_since FROM image WHERE archive_id = :archive_id
                        AND {IS_FURTHER_PAGE_OF.format(key=":file")}
                ), near AS (
                    SELECT id, key FROM page WHERE missing_since IS NULL
                        OR EXISTS (SELECT FROM page AS own WHERE own.key = :key AND own.missing_since IS NOT NULL)
                )
                SELECT (SELECT id FROM near WHERE key < :key COLLATE "C" ORDER BY key DESC LIMIT 1) AS previous_page,
                    (SELECT id FROM near WHERE key > :key COLLATE "C" ORDER BY key LIMIT 1) AS next_page,
                    (SELECT count(*) FROM page WHERE missing_since IS NULL AND key <> :file) AS further"""  # noqa: S608
        ),
        {"archive_id": archive_id, "key": key, "file": file_key},
    ).one()
    return PageView(number, file_key, around.previous_page, around.next_page, 1 + around.further)


def of_files(session: Session, image_ids: Sequence[int]) -> dict[int, list[int]]:
    """Return the further pages of the files among images, by the id of the file; those without any are left out."""
    rows = session.execute(
        text(
            f"""SELECT file.id AS file_id, image.id FROM image AS file JOIN image ON image.archive_id = file.archive_id
                    AND {IS_FURTHER_PAGE_OF.format(key="file.key")}
                WHERE file.id = ANY(:ids)"""  # noqa: S608  (constants)
        ),
        {"ids": list(image_ids)},
    )
    found: dict[int, list[int]] = {}
    for row in rows:
        found.setdefault(row.file_id, []).append(row.id)
    return found


def with_pages(session: Session, image_ids: Sequence[int]) -> list[int]:
    """Return images and all pages of the files among them, ids ascending."""
    return sorted({*image_ids, *(page for pages in of_files(session, image_ids).values() for page in pages)})


def of_name(session: Session, key: str) -> list[int]:
    """Return the images of the file with this key, of any archive: its first page, and its further ones."""
    return list(
        session.scalars(
            text(
                f"""SELECT found.id FROM archive CROSS JOIN unnest(CAST(:keys AS text[])) AS file (key), LATERAL (
                        SELECT id FROM image WHERE archive_id = archive.id AND key = file.key COLLATE "C"
                        UNION ALL
                        SELECT id FROM image WHERE archive_id = archive.id
                            AND {IS_FURTHER_PAGE_OF.format(key="file.key")}
                    ) AS found"""  # noqa: S608  (constants)
            ),
            {"keys": [key, *other_forms(key)]},
        )
    )

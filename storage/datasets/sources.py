"""From what is recorded of images to pictures and labels of a version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.objects.pages import file_of, number_of
from storage.results.lookup import uri_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session


_IS_LEFT_OUT = """(record.image_id IS NULL OR image.missing_since IS NOT NULL)
    AND image.key !~ '[.](txt|json)$'"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a generation recorded of an image. ``scores`` are in stored units, one for each of ``tags``."""

    generation_id: int
    version: str
    tags: Sequence[int]
    scores: Sequence[int]
    caption: str | None
    captioner: str


@dataclass(frozen=True, slots=True)
class Place:
    """The images of an archive whose keys begin with ``prefix``. ``uri`` is the archive's."""

    archive_id: int
    prefix: str
    uri: str


@dataclass(frozen=True, slots=True)
class Added:
    """Of some images: how many are new in a version, and the last of them; None: there were none."""

    added: int
    last: int | None


def recorded(session: Session, generation_id: int, image_ids: Sequence[int]) -> dict[int, Recorded]:
    """Return what a generation recorded of images, without people's corrections."""
    rows = session.execute(
        text(
            f"""SELECT image_id, generation_id, version, tags, scores, caption, captioner FROM record
                WHERE generation_id = {generation_id:d} AND image_id = ANY(:ids)"""  # noqa: S608  (a number)
        ),
        {"ids": list(image_ids)},
    )
    return {image_id: Recorded(*told) for image_id, *told in rows}


def add_archive(
    session: Session, version_id: int, generation_id: int, place: Place, *, after: int, limit: int
) -> Added:
    """Add the next recorded images of an archive to a version, after an image id.

    Images that were no longer found when their archive was last listed are left out.
    """
    row = session.execute(
        text(
            f"""
            WITH page AS (
                SELECT image.id, record.version FROM image JOIN record ON record.image_id = image.id
                WHERE record.generation_id = {generation_id:d} AND image.archive_id = :archive_id
                    AND starts_with(image.key, :prefix) AND image.missing_since IS NULL AND image.id > :after
                ORDER BY image.id LIMIT :limit FOR KEY SHARE OF image
            ), added AS (
                INSERT INTO dataset_item (image_id, version_id, version)
                SELECT id, {version_id:d}, version FROM page ON CONFLICT DO NOTHING RETURNING 1
            )
            SELECT (SELECT count(*) FROM added) AS added, (SELECT max(id) FROM page) AS last
            """  # noqa: S608  (numbers)
        ),
        {"archive_id": place.archive_id, "prefix": place.prefix, "after": after, "limit": limit},
    ).one()
    return Added(row.added, row.last)


def add_images(session: Session, version_id: int, generation_id: int, image_ids: Sequence[int]) -> int:
    """Add those of these images to a version that a generation recorded. Return how many are new."""
    added = session.execute(
        text(
            f"""
            INSERT INTO dataset_item (image_id, version_id, version)
            SELECT image.id, {version_id:d}, record.version FROM image JOIN record ON record.image_id = image.id
            WHERE record.generation_id = {generation_id:d} AND image.id = ANY(:ids)
            ORDER BY image.id FOR KEY SHARE OF image ON CONFLICT DO NOTHING
            """  # noqa: S608  (numbers)
        ),
        {"ids": list(image_ids)},
    )
    return int(added.rowcount)  # type: ignore[attr-defined]  # an INSERT's result is a CursorResult


def left_out(session: Session, generation_id: int, place: Place) -> dict[str, int]:
    """Count the images of an archive that ``add_archive`` leaves out, by reason. Files beside pictures are none."""
    row = session.execute(
        text(
            f"""
            SELECT count(*) FILTER (WHERE image.missing_since IS NOT NULL) AS missing,
                count(*) FILTER (WHERE image.missing_since IS NULL) AS not_recognised
            FROM image LEFT JOIN record ON record.image_id = image.id AND record.generation_id = {generation_id:d}
            WHERE image.archive_id = :archive_id AND starts_with(image.key, :prefix)
                AND {_IS_LEFT_OUT}
            """  # noqa: S608  (a number and a constant)
        ),
        {"archive_id": place.archive_id, "prefix": place.prefix},
    ).one()
    return {"not_recognised": row.not_recognised, "missing": row.missing}


def left_out_names(session: Session, generation_id: int, place: Place, limit: int) -> list[str]:
    """Return the keys of the first of the images that ``left_out`` counts."""
    rows = session.scalars(
        text(
            f"""
            SELECT image.key FROM image
            LEFT JOIN record ON record.image_id = image.id AND record.generation_id = {generation_id:d}
            WHERE image.archive_id = :archive_id AND starts_with(image.key, :prefix) AND {_IS_LEFT_OUT}
            ORDER BY image.key LIMIT :limit
            """  # noqa: S608  (a number and a constant)
        ),
        {"archive_id": place.archive_id, "prefix": place.prefix, "limit": limit},
    )
    return list(rows)


def versions_of(session: Session, generation_id: int, image_ids: Sequence[int]) -> dict[int, str]:
    """Return the versions of the bytes of those of these images that a generation recorded."""
    rows = session.execute(
        text(
            f"""SELECT image_id, version FROM record
                WHERE generation_id = {generation_id:d} AND image_id = ANY(:ids)"""  # noqa: S608  (a number)
        ),
        {"ids": list(image_ids)},
    )
    return {row.image_id: row.version for row in rows}


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A file beside a picture: of the same name, with the ending ``txt`` or ``json``.

    With ``is_in_tar``, ``key`` and ``version`` are those of the picture: its tar file may have such files beside it.
    """

    image_id: int
    archive_uri: str
    key: str
    version: str
    is_in_tar: bool


def sidecars(session: Session, version_id: int, after: int, limit: int) -> tuple[list[Sidecar], int | None]:
    """Return the files beside the next pictures of a version after an image id, and the last of these pictures.

    They are found among the keys of their archives, as these were listed last.
    """
    rows = session.execute(
        text(
            f"""
            WITH page AS (
                SELECT image.id, image.archive_id, image.key, image.version,
                    regexp_replace(image.key, '[.][^./]*$', '') AS stem
                FROM dataset_item AS item JOIN image ON image.id = item.image_id
                WHERE item.version_id = {version_id:d} AND item.image_id > :after ORDER BY image.id LIMIT :limit
            )
            SELECT page.id, archive.uri, beside.key, beside.version, false AS is_in_tar FROM page
            LEFT JOIN image AS beside ON beside.archive_id = page.archive_id AND beside.missing_since IS NULL
                AND beside.key = ANY (ARRAY[page.stem || '.txt', page.stem || '.json'])
            LEFT JOIN archive ON archive.id = beside.archive_id
            UNION ALL SELECT page.id, archive.uri, page.key, page.version, true FROM page
            JOIN archive ON archive.id = page.archive_id WHERE archive.uri LIKE 'tar+%'
            ORDER BY 1, 3 DESC
            """  # noqa: S608  (a number)
        ),
        {"after": after, "limit": limit},
    ).all()
    found = [Sidecar(*row) for row in rows if row.key is not None]
    return found, rows[-1].id if rows else None


def places_of(session: Session, version_id: int) -> list[Place]:
    """Return the archives of the pictures of a version."""
    rows = session.execute(
        text(
            f"""SELECT id, uri FROM archive WHERE EXISTS (
                    SELECT FROM image JOIN dataset_item AS item ON item.image_id = image.id
                    WHERE image.archive_id = archive.id AND item.version_id = {version_id:d}) ORDER BY id"""  # noqa: S608
        )
    )
    return [Place(row.id, "", row.uri) for row in rows]


@dataclass(frozen=True, slots=True)
class Named:
    """Where an image is, and its size in pixels as it was recognised; 0: not known.

    ``page`` and ``file_key`` are as of ``Hit``.
    """

    uri: str
    archive_id: int
    key: str
    width: int
    height: int
    page: int | None
    file_key: str


def named(session: Session, generation_id: int, image_ids: Sequence[int]) -> dict[int, Named]:
    """Return where images are."""
    rows = session.execute(
        text(
            f"""
            SELECT image.id, archive.uri, image.archive_id, image.key, image.version,
                (SELECT pages FROM opening WHERE opening.image_id = image.id) AS pages,
                coalesce(record.width, 0) AS width, coalesce(record.height, 0) AS height
            FROM image JOIN archive ON archive.id = image.archive_id
            LEFT JOIN record ON record.image_id = image.id AND record.generation_id = {generation_id:d}
            WHERE image.id = ANY(:ids)
            """  # noqa: S608  (a number)
        ),
        {"ids": list(image_ids)},
    )
    return {
        row.id: Named(
            uri_of(row.uri, row.key),
            row.archive_id,
            row.key,
            row.width,
            row.height,
            number_of(row.version) if (row.pages or 1) > 1 else None,
            file_of(row.key, row.version),
        )
        for row in rows
    }


def most_captions(session: Session, version_id: int) -> int:
    """Return the number of captions of the picture of a version that has the most."""
    statement = text(f"SELECT max(cardinality(captions)) FROM dataset_item WHERE version_id = {version_id:d}")  # noqa: S608
    return session.scalar(statement) or 0

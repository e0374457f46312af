"""What XMP sidecars beside images say: small files of other programs, listed with the images and read when they change.

``IMG_1.jpg.xmp`` belongs to ``IMG_1.jpg``, and ``IMG_1.xmp`` to every ``IMG_1`` of its folder, whatever its ending,
unless that has one of its own. An image has the facts of its file and of its sidecar: ``results.metadata`` joins them.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage.database import driver_connection
from storage.objects.pages import FILE_KEY, IS_FURTHER_PAGE_OF, IS_PAGE
from storage.tables import KEY_NUMBER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

ENDING = ".xmp"

_OF_FILE_FIRST = ("camera_make", "camera_model", "lens", "focal_mm", "exposure_seconds", "f_number", "iso")
"""What a camera wrote. A sidecar only repeats it."""

_TOGETHER = (("taken_at", "taken_offset"), ("latitude", "longitude", "altitude_m"))
"""Facts that are of one source: an offset of another clock would make another time."""

_PLACE = ("latitude", "longitude", "altitude_m")

_FILE = f"CASE WHEN {IS_PAGE} THEN {FILE_KEY} ELSE image.key END"
"""The key of the file of an image: what is beside a file is said of all of its pages."""

_NAMES = f"""ARRAY[{_FILE} || '.xmp', {_FILE} || '.XMP',
    regexp_replace({_FILE}, '[.][^./ ]*$', '') || '.xmp', regexp_replace({_FILE}, '[.][^./ ]*$', '') || '.XMP']"""
"""What the sidecars of an image may be called. An ending has no space: ``results.replaced`` puts words behind one, and
what is beside such a key belongs to the picture that took its place."""

_LAST_ENDING = re.compile(r"[.][^./ ]*$")

_FACTS = f"""
    SELECT image.id, beside.key, beside.facts FROM image CROSS JOIN LATERAL (
        SELECT key, facts FROM sidecar
        WHERE sidecar.archive_id = image.archive_id AND sidecar.key = ANY({_NAMES})
        ORDER BY length(key) DESC, key DESC LIMIT 1
    ) AS beside WHERE image.id = ANY(%(ids)s)
"""  # noqa: S608  (constants)
"""The sidecar with the longer name is the one of this image alone."""

_IMAGES = text(
    f"""
    WITH file AS (SELECT image.id FROM unnest(CAST(:stems AS text[])) AS stem
    JOIN image ON image.archive_id = :archive_id AND image.key = stem
    UNION
    SELECT image.id FROM unnest(CAST(:stems AS text[])) AS stem
    JOIN image ON image.archive_id = :archive_id AND image.key > stem || '.' AND image.key < stem || '/'
    WHERE substr(image.key, length(stem) + 2) !~ '[./ ]')
    SELECT id FROM file
    UNION
    SELECT image.id FROM file JOIN image AS first ON first.id = file.id
    JOIN image ON image.archive_id = :archive_id AND {IS_FURTHER_PAGE_OF.format(key="first.key")}
    ORDER BY 1
    """  # noqa: S608  (constants)
)
_PUT = text(
    """
    INSERT INTO sidecar (archive_id, key, version, facts)
    SELECT :archive_id, key, version, facts FROM jsonb_to_recordset(CAST(:rows AS jsonb))
        AS read (key text, version text, facts jsonb) ORDER BY key
    ON CONFLICT (archive_id, key) DO UPDATE SET version = excluded.version, facts = excluded.facts
    """
)
_ERASE = text(
    f"""
    DELETE FROM sidecar USING image WHERE image.id = ANY(:ids) AND sidecar.archive_id = image.archive_id
        AND sidecar.key = ANY({_NAMES})
    """  # noqa: S608  (constants)
)


def names_of(key: str) -> list[str]:
    """Return what the sidecars of an image may be called, the one that counts first at first."""
    stem = _LAST_ENDING.sub("", key)
    return list(dict.fromkeys([f"{key}.xmp", f"{key}.XMP", f"{stem}.xmp", f"{stem}.XMP"]))


def shares_stem(session: Session, image_id: int, key: str) -> bool:
    """Return whether ``IMG_1.xmp`` belongs to another image too: one that is there, with another ending."""
    archive_id = session.scalar(text("SELECT archive_id FROM image WHERE id = :id"), {"id": image_id})
    ids = session.scalars(_IMAGES, {"archive_id": archive_id, "stems": [_LAST_ENDING.sub("", key)]}).all()
    there = text(
        f"""SELECT EXISTS (SELECT FROM image WHERE id = ANY(:ids) AND id <> :id AND missing_since IS NULL
            AND NOT {IS_PAGE})"""  # noqa: S608  (a constant)
    )
    return bool(session.scalar(there, {"ids": list(ids), "id": image_id}))


def versions(session: Session, archive_id: int, keys: Sequence[str]) -> dict[str, str]:
    """Return the versions of sidecars that were read, by key. Others are left out."""
    rows = session.execute(
        text("SELECT key, version FROM sidecar WHERE archive_id = :archive_id AND key = ANY(:keys)"),
        {"archive_id": archive_id, "keys": list(keys)},
    )
    return {row.key: row.version for row in rows}


def gone(
    session: Session, archive_id: int, bounds: tuple[str | None, str | None], prefix: str, listed: Sequence[str]
) -> list[str]:
    """Return the keys of sidecars that were read and that a listing did not find.

    Args:
        session: a transaction.
        archive_id: the listed archive.
        bounds: of the range that was listed: the last key before it, and its last key; None: it is open there.
        prefix: the listed part of the archive.
        listed: what was found there.
    """
    after, until = bounds
    folder = prefix.strip("/")
    conditions = [
        "archive_id = :archive_id",
        "key <> ALL(CAST(:listed AS text[]))",
        *(["key > :after"] if after is not None else []),
        *(["key <= :until"] if until is not None else []),
        *(["key >= :folder || '/'", "key < :folder || '0'"] if folder else []),
    ]
    values = {"archive_id": archive_id, "listed": list(listed), "after": after, "until": until, "folder": folder}
    where = " AND ".join(conditions)
    return list(session.scalars(text(f"SELECT key FROM sidecar WHERE {where} ORDER BY key"), values))  # noqa: S608


def unnamed(session: Session, archive_id: int, prefix: str, job_id: int, after: str, limit: int) -> list[str]:
    """Return keys of sidecars that were read and that a job did not name: see ``storage.ledger.unfound.name``."""
    folder = prefix.strip("/")
    below = " AND key >= :folder || '/' AND key < :folder || '0'" if folder else ""
    return list(
        session.scalars(
            text(
                f"""SELECT key FROM sidecar WHERE archive_id = :archive_id AND key > :after{below} AND NOT EXISTS (
                        SELECT FROM naming WHERE job_id = :job_id AND image_id = {KEY_NUMBER.format(key="key")})
                    ORDER BY key LIMIT :limit"""  # noqa: S608  (constants)
            ),
            {"archive_id": archive_id, "folder": folder, "job_id": job_id, "after": after, "limit": limit},
        )
    )


def lock_images(session: Session, archive_id: int, keys: Sequence[str]) -> list[int]:
    """Return the images, ascending, to which sidecars of these keys belong. Keep what their files say from changing."""
    stems = sorted({key[: -len(ENDING)] for key in keys})
    ids = list(session.scalars(_IMAGES, {"archive_id": archive_id, "stems": stems}))
    session.execute(text("SELECT id FROM image WHERE id = ANY(:ids) ORDER BY id FOR UPDATE"), {"ids": ids})
    return ids


def put(session: Session, archive_id: int, read: Mapping[str, tuple[str, Mapping[str, Any]]]) -> None:
    """Store what sidecars say: (version, facts) by key."""
    rows = [{"key": key, "version": version, "facts": facts} for key, (version, facts) in read.items()]
    session.execute(_PUT, {"archive_id": archive_id, "rows": json.dumps(rows)})


def remove(session: Session, archive_id: int, keys: Sequence[str]) -> None:
    """Forget what sidecars said that are gone."""
    session.execute(
        text("DELETE FROM sidecar WHERE archive_id = :archive_id AND key = ANY(:keys)"),
        {"archive_id": archive_id, "keys": list(keys)},
    )


def facts_of(session: Session, image_ids: Sequence[int]) -> dict[int, tuple[str, dict[str, Any]]]:
    """Return the sidecars of images, (key, facts) by id. Images without one are left out."""
    rows = driver_connection(session).execute(_FACTS, {"ids": list(image_ids)}, prepare=True).fetchall()
    return {image_id: (key, facts) for image_id, key, facts in rows}


def overlaid(own: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a file with those of its sidecar, which people wrote later and so counts first.

    What a camera wrote is taken from the file, and from the sidecar only where the file does not say it.
    """
    told = {name: value for name, value in said.items() if value not in (None, [], ())}
    found = {name: value for name, value in own.items() if value not in (None, [], ())}
    for names in _TOGETHER:
        if names[0] in told:
            for name in names:
                found.pop(name, None)
    return told | found | {name: value for name, value in told.items() if name not in _OF_FILE_FIRST}


def without_place(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts but those that tell where somebody was."""
    return {name: value for name, value in facts.items() if name not in _PLACE}


def forget_places(session: Session, archive_id: int | None) -> None:
    """Erase the places that sidecars say, of an archive or of all (None)."""
    session.execute(
        text(
            """UPDATE sidecar SET facts = facts - CAST(:place AS text[])
               WHERE (:archive_id = 0 OR archive_id = :archive_id) AND facts ? 'latitude'"""
        ),
        {"archive_id": archive_id or 0, "place": list(_PLACE)},
    )


def erase(session: Session, image_ids: Sequence[int]) -> None:
    """Erase what the sidecars of images say. Those of images that stay are read again with the next listing."""
    session.execute(_ERASE, {"ids": list(image_ids)})

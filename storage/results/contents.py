"""Which images have the same bytes: a hash of each, when it was last read.

A file that was only touched has another version and the same bytes. What is known of these bytes then belongs to the
new version too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage.database import driver_connection
from storage.tables import HASH_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

OF_BYTES = ("record", "reading", "localization", "cropping", "look", "feature", "failure", "metadata")
"""Tables whose ``version`` is that of the bytes from which a row was made. Data sets are left as they were sealed."""

_LOOKED_AT = 100
"""Images of the same bytes that are looked at for what they show: there may be a million empty pictures."""

# Bytes that were not decoded this time show what they showed before.
_SHAPE, _PIXELS = (
    f"coalesce(excluded.{column}, CASE WHEN content.hash = excluded.hash THEN content.{column} END)"
    for column in ("shape", "pixels")
)

# One statement, since each that a batch takes costs a round trip. It sees the table as it was before. What bytes show
# is the same wherever they are: an image that was not decoded, since its bytes were known, has it from another one.
_NOTE = f"""
    WITH read AS MATERIALIZED (
        SELECT * FROM unnest(CAST(%(ids)b AS bigint[]), CAST(%(versions)b AS text[]), CAST(%(hashes)b AS bytea[]),
            CAST(%(shapes)b AS bigint[]), CAST(%(pixels)b AS bigint[])) AS read (image_id, version, hash, shape, pixels)
    ), fresh AS MATERIALIZED (
        SELECT image_id, version, hash, coalesce(read.shape, other.shape) AS shape,
            coalesce(read.pixels, other.pixels) AS pixels
        FROM read LEFT JOIN LATERAL (
            SELECT shape, pixels FROM (
                SELECT shape, pixels FROM content WHERE read.shape IS NULL AND content.hash = read.hash
                ORDER BY content.hash, content.image_id LIMIT {_LOOKED_AT}
            ) AS same WHERE shape IS NOT NULL LIMIT 1
        ) AS other ON true
    ), noted AS (
        INSERT INTO content (image_id, version, hash, shape, pixels)
        SELECT image_id, version, hash, shape, pixels FROM fresh ORDER BY image_id
        ON CONFLICT (image_id) DO UPDATE SET version = excluded.version, hash = excluded.hash,
            shape = {_SHAPE}, pixels = {_PIXELS},
            xid = CASE WHEN content.shape IS DISTINCT FROM {_SHAPE} THEN excluded.xid ELSE content.xid END
        WHERE (content.version, content.hash, content.shape, content.pixels)
            IS DISTINCT FROM (excluded.version, excluded.hash, {_SHAPE}, {_PIXELS})
    )
    SELECT image_id, content.version, fresh.version, content.hash, content.hash = fresh.hash, content.pixels
    FROM content JOIN fresh USING (image_id)
    WHERE content.version <> fresh.version OR content.hash <> fresh.hash ORDER BY image_id
"""  # noqa: S608  (constants)

# What is recorded is still that of the former bytes: the batch writes its records later.
_KEEP_FORMER = """
    INSERT INTO former_content (image_id, archive_id, version, hash, pixels, generation_id, v, width, height)
    SELECT image.id, image.archive_id, former.version, former.hash, former.pixels, known.generation_id, known.v,
        known.width, known.height
    FROM unnest(CAST(:ids AS bigint[]), CAST(:versions AS text[]), CAST(:hashes AS bytea[]), CAST(:pixels AS bigint[]))
        AS former (image_id, version, hash, pixels)
    JOIN image ON image.id = former.image_id
    LEFT JOIN LATERAL (
        SELECT record.generation_id, vector.v, record.width, record.height FROM record
        JOIN vector USING (image_id, generation_id)
        WHERE record.image_id = image.id AND record.version = former.version
        ORDER BY record.recorded_at DESC LIMIT 1
    ) AS known ON true
    ORDER BY image.id
    ON CONFLICT (image_id) DO NOTHING
"""

_IS_BACK = """
    DELETE FROM former_content USING unnest(CAST(:ids AS bigint[]), CAST(:hashes AS bytea[])) AS now (image_id, hash)
    WHERE former_content.image_id = now.image_id AND former_content.hash = now.hash
"""

_FROM_RECORDS = """
    INSERT INTO content (image_id, version, hash)
    SELECT DISTINCT ON (image_id) image_id, version, substring(sha256 FOR {bytes:d})
    FROM unnest(CAST(:ids AS bigint[])) AS wanted (id) JOIN record ON image_id = wanted.id
    WHERE sha256 IS NOT NULL AND NOT EXISTS (SELECT FROM content WHERE content.image_id = wanted.id)
    ORDER BY image_id, recorded_at DESC
    ON CONFLICT (image_id) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class ReadBytes:
    """The bytes of an image as they were read: their version, and their SHA-256.

    ``shape`` and ``pixels`` are hashes of what they show (``ram_core.picture_hashes``); None: they were not decoded.
    """

    image_id: int
    version: str
    sha256: bytes
    shape: int | None = None
    pixels: int | None = None


def hash_of(sha256: bytes) -> bytes:
    """Return what finds the images with these bytes."""
    return sha256[:HASH_BYTES]


def note(session: Session, rows: Sequence[ReadBytes]) -> int:
    """Store what was read. Return how many of the images have a new version of the bytes that they had before.

    What was made of these bytes then belongs to the new version. Of images with other bytes the former ones are
    remembered (``replaced``). The caller has locked the images, and has not written their new results yet.
    """
    if not rows:
        return 0
    ordered = sorted(rows, key=lambda row: row.image_id)
    same = driver_connection(session).execute(
        _NOTE,
        {
            "ids": [row.image_id for row in ordered],
            "versions": [row.version for row in ordered],
            "hashes": [hash_of(row.sha256) for row in ordered],
            "shapes": [row.shape for row in ordered],
            "pixels": [row.pixels for row in ordered],
        },
        prepare=True,
    )
    found = same.fetchall()
    touched = {image_id: (before, now) for image_id, before, now, _, is_same, _ in found if is_same}
    hand_on(session, touched)
    if changed := [row for row in found if not row[4]]:
        _keep_former(session, changed, {row.image_id: hash_of(row.sha256) for row in ordered})
    return len(touched)


def _keep_former(session: Session, changed: Sequence[Any], hashes: Mapping[int, bytes]) -> None:
    """Remember which bytes these images had, for the end of the job; a second change does not replace the first."""
    ids = [row[0] for row in changed]
    session.execute(
        text(_KEEP_FORMER),
        {
            "ids": ids,
            "versions": [row[1] for row in changed],
            "hashes": [row[3] for row in changed],
            "pixels": [row[5] for row in changed],
        },
    )
    session.execute(text(_IS_BACK), {"ids": ids, "hashes": [hashes[image_id] for image_id in ids]})


def hand_on(session: Session, versions: Mapping[int, tuple[str, str]]) -> None:
    """Let what was made of the bytes of images belong to another version of them: by image, (before, now)."""
    if not versions:
        return
    values = {
        "ids": list(versions),
        "before": [before for before, _ in versions.values()],
        "now": [now for _, now in versions.values()],
    }
    for table in OF_BYTES:
        session.execute(
            text(
                f"""UPDATE {table} SET version = same.now
                    FROM unnest(CAST(:ids AS bigint[]), CAST(:before AS text[]), CAST(:now AS text[]))
                        AS same (image_id, before, now)
                    WHERE {table}.image_id = same.image_id AND {table}.version = same.before"""  # noqa: S608  (constants)
            ),
            values,
        )


def note_recorded(session: Session, image_ids: Sequence[int]) -> int:
    """Store the hashes of images that were read before there was a place for them, from their records.

    Return how many. Nothing is read again. The caller has locked the images or their archive.
    """
    if not image_ids:
        return 0
    noted = session.execute(text(_FROM_RECORDS.format(bytes=HASH_BYTES)), {"ids": sorted(image_ids)})
    return int(noted.rowcount)  # type: ignore[attr-defined]  # an INSERT's result is a CursorResult

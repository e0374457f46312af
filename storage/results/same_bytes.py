"""Results that an image takes over from one with the same bytes, which the same generation has recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.rows import namedtuple_row

from storage.database import driver_connection
from storage.results.contents import hash_of
from storage.tables import PRECISIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

_LOOKED_AT = 100
"""Images of the same bytes that are looked at for a record: there may be a million empty pictures."""

_HAS_FEATURES = """(%(features)s IN ('none', 'auto') OR EXISTS (
    SELECT FROM feature JOIN feature_file ON feature_file.id = feature.file_id
    WHERE feature.image_id = record.image_id AND feature.generation_id = record.generation_id
      AND feature.version = record.version AND feature_file.kind IN ('tokens', %(features)s)))"""

_CANDIDATES = f"""
    SELECT content.image_id FROM content WHERE content.hash = wanted.hash
    ORDER BY content.hash, content.image_id LIMIT {_LOOKED_AT}
"""  # noqa: S608  (constants)


def _records(candidates: str, generation_id: int) -> str:
    """Return the statement for a record that one of the candidates has of the wanted bytes."""
    return f"""
        SELECT record.image_id, tags, scores, caption, captioner, width, height, precision, record.version, vector.v
        FROM ({candidates}) AS candidate
        JOIN record ON record.image_id = candidate.image_id AND record.generation_id = {generation_id:d}
        JOIN vector ON vector.image_id = candidate.image_id AND vector.generation_id = {generation_id:d}
        WHERE record.sha256 = wanted.sha256 AND (%(captioner)s = 'none' OR captioner = %(captioner)s)
          AND {_HAS_FEATURES} LIMIT 1
    """  # noqa: S608  (constants and a number)


def _find(generation_id: int) -> str:
    """Return the statement of :func:`find`.

    First it looks at the image itself, which may have been touched only and keeps its own caption. The hash finds the
    others, and the whole SHA-256 of the record decides.
    """
    return f"""
        SELECT wanted.image_id AS wanted_id, found.*
        FROM unnest(%(ids)s::bigint[], %(sha256s)s::bytea[], %(hashes)s::bytea[]) AS wanted (image_id, sha256, hash)
        CROSS JOIN LATERAL (
            SELECT 0 AS place, own.* FROM ({_records("SELECT wanted.image_id", generation_id)}) AS own
            UNION ALL
            SELECT 1 AS place, other.* FROM ({_records(_CANDIDATES, generation_id)}) AS other
            ORDER BY place LIMIT 1
        ) AS found
    """  # noqa: S608  (constants and a number)


# The row of the features that are copied is locked: the file in which they are may be written again.
_COPY_FEATURES = """
    INSERT INTO feature (image_id, generation_id, file_id, position, version)
    SELECT copy.image_id, feature.generation_id, feature.file_id, feature.position, copy.version
    FROM unnest(%(ids)s::bigint[], %(from_ids)s::bigint[], %(versions)s::text[], %(from_versions)s::text[])
        AS copy (image_id, from_id, version, from_version)
    JOIN feature ON feature.image_id = copy.from_id AND feature.generation_id = %(generation_id)s
        AND feature.version = copy.from_version
    WHERE copy.image_id <> copy.from_id
    ORDER BY feature.image_id, copy.image_id FOR SHARE OF feature
    ON CONFLICT (image_id, generation_id) DO UPDATE
    SET file_id = excluded.file_id, position = excluded.position, version = excluded.version
"""


@dataclass(frozen=True, slots=True)
class SameBytes:
    """The record of an image with the same bytes.

    Attributes:
        image_id: of whom it is; the image itself, if that has another version of the same bytes now.
        version: of the object from which it was made.
        scores: in units of 1 / ``SCORE_SCALE``.
        vector: packed float16.
        precision: one of ``PRECISIONS``; None: not known.
    """

    image_id: int
    version: str
    tags: list[int]
    scores: list[int]
    caption: str | None
    captioner: str
    width: int
    height: int
    vector: bytes
    precision: str | None


@dataclass(frozen=True, slots=True)
class FeatureCopy:
    """An image that takes over the features of another one, and the versions of both."""

    image_id: int
    version: str
    from_id: int
    from_version: str


def find(
    session: Session, generation_id: int, captioner: str, features: str, sha256s: Mapping[int, bytes]
) -> dict[int, SameBytes]:
    """Return records of the same bytes, by the id of the image that was read. Images without one are left out.

    Args:
        session: a transaction.
        generation_id: the generation of the records.
        captioner: who wrote the caption; ``none``: any, or no caption.
        features: what is stored beside the record, as ``images.IS_PENDING`` asks for it.
        sha256s: of the bytes that were read, by image.
    """
    with driver_connection(session).cursor(row_factory=namedtuple_row) as cursor:
        cursor.execute(
            _find(generation_id),
            {
                "captioner": captioner,
                "features": features,
                "ids": list(sha256s),
                "sha256s": list(sha256s.values()),
                "hashes": [hash_of(sha256) for sha256 in sha256s.values()],
            },
            prepare=True,
        )
        rows: list[Any] = cursor.fetchall()
    return {
        row.wanted_id: SameBytes(
            image_id=row.image_id,
            version=row.version,
            tags=row.tags,
            scores=row.scores,
            caption=row.caption,
            captioner=row.captioner,
            width=row.width,
            height=row.height,
            vector=row.v,
            precision=None if row.precision is None else PRECISIONS[row.precision],
        )
        for row in rows
    }


def copy_features(session: Session, generation_id: int, copies: Sequence[FeatureCopy]) -> None:
    """Let images share the stored features of others. The records are written, and the images locked.

    Features that were lost meanwhile are not copied. A job that asks for features then finds the images again.
    """
    if not copies:
        return
    driver_connection(session).execute(
        _COPY_FEATURES,
        {
            "generation_id": generation_id,
            "ids": [copy.image_id for copy in copies],
            "versions": [copy.version for copy in copies],
            "from_ids": [copy.from_id for copy in copies],
            "from_versions": [copy.from_version for copy in copies],
        },
    )

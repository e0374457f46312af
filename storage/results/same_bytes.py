"""Results that an image takes over from one with the same bytes, which the same generation has recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.rows import namedtuple_row

from storage.database import driver_connection
from storage.results.contents import hash_of
from storage.tables import PRECISIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

_LOOKED_AT = 100
"""Images of the same bytes that are looked at for a record: there may be a million empty pictures."""

_CANDIDATES = f"""
    SELECT content.image_id FROM content WHERE content.hash = wanted.hash
    ORDER BY content.hash, content.image_id LIMIT {_LOOKED_AT}
"""  # noqa: S608  (constants)


def _records(candidates: str, generation_id: int) -> str:
    """Return the statement for a record that one of the candidates has of the wanted bytes."""
    return f"""
        SELECT record.image_id, tags, scores, caption, captioner, width, height, precision, vector.v,
            kept.file, kept.position
        FROM ({candidates}) AS candidate
        JOIN record ON record.image_id = candidate.image_id AND record.generation_id = {generation_id:d}
        JOIN vector ON vector.image_id = candidate.image_id AND vector.generation_id = {generation_id:d}
        LEFT JOIN LATERAL (
            SELECT feature_file.name AS file, feature.position
            FROM feature JOIN feature_file ON feature_file.id = feature.file_id
            WHERE feature.image_id = record.image_id AND feature.generation_id = {generation_id:d}
              AND feature.version = record.version AND feature_file.kind = %(kind)s
        ) AS kept ON true
        WHERE record.sha256 = wanted.sha256 AND (%(captioner)s = 'none' OR captioner = %(captioner)s)
          AND (NOT %(needs_features)s OR kept.file IS NOT NULL) LIMIT 1
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


@dataclass(frozen=True, slots=True)
class SameBytes:
    """The record of an image with the same bytes.

    Attributes:
        image_id: of whom it is; the image itself, if that has another version of the same bytes now.
        scores: in units of 1 / ``SCORE_SCALE``.
        vector: packed float16.
        precision: one of ``PRECISIONS``; None: not known.
        file: in which its features are; None: there are none of the wanted kind.
        position: their row in it.
    """

    image_id: int
    tags: list[int]
    scores: list[int]
    caption: str | None
    captioner: str
    width: int
    height: int
    vector: bytes
    precision: str | None
    file: str | None
    position: int | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job asks for.

    Attributes:
        generation_id: the generation of its records.
        captioner: who writes the captions; ``none``: any, or no caption.
        kind: of the features that it stores; ``none``: it stores none.
        needs_features: whether a record without such features is of no use.
    """

    generation_id: int
    captioner: str
    kind: str
    needs_features: bool


def find(session: Session, wanted: Wanted, sha256s: Mapping[int, bytes]) -> dict[int, SameBytes]:
    """Return records of the same bytes, by the id of the image that was read. Images without one are left out.

    Args:
        session: a transaction.
        wanted: what the records must have.
        sha256s: of the bytes that were read, by image.
    """
    with driver_connection(session).cursor(row_factory=namedtuple_row) as cursor:
        cursor.execute(
            _find(wanted.generation_id),
            {
                "captioner": wanted.captioner,
                "kind": wanted.kind,
                "needs_features": wanted.needs_features,
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
            tags=row.tags,
            scores=row.scores,
            caption=row.caption,
            captioner=row.captioner,
            width=row.width,
            height=row.height,
            vector=row.v,
            precision=None if row.precision is None else PRECISIONS[row.precision],
            file=row.file,
            position=row.position,
        )
        for row in rows
    }

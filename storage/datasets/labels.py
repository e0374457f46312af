"""The tags of the pictures of a version: kept, or dropped for a reason. Written in blocks, read by image or by tag."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage.database import driver_connection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

ORIGINS = ("given", "parsed", "generated", "corrected")
"""Where a tag of a picture is from: assigned in the archive, named by a caption, added by a model, said by a person."""

REASONS = ("outlier", "contradicted", "no_region", "removed")
"""Why a tag was dropped: by cleaning, or (``removed``) by a person."""


@dataclass(frozen=True, slots=True)
class Label:
    """A tag of a picture in a version.

    Attributes:
        image_id: the image.
        tag_id: of the vocabulary of the data set.
        origins: all those that named it, as in ``ORIGINS``.
        reason: why it was dropped, as in ``REASONS``; None: it is kept.
        certainty: how sure the step was of it, 0..1; None: it does not say.
        evidence: on what the step decided.
    """

    image_id: int
    tag_id: int
    origins: Sequence[str]
    reason: str | None = None
    certainty: float | None = None
    evidence: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TagCount:
    """A tag of a version: how many pictures keep it, how many lost it, by reason, and origins of those kept."""

    tag_id: int
    kept: int
    dropped: Mapping[str, int]
    origins: Mapping[str, int]


_COLUMNS = "image_id, tag_id, origins, reason, certainty, evidence"


def put(session: Session, version_id: int, labels: Sequence[Label]) -> None:
    """Store labels. They replace those of the same picture and tag. Labels of images that are no more are left out."""
    _write(
        session,
        version_id,
        labels,
        """origins = excluded.origins, reason = excluded.reason, certainty = excluded.certainty,
           evidence = excluded.evidence""",
    )


def merge(session: Session, version_id: int, labels: Sequence[Label]) -> None:
    """Store labels. Where a picture has the tag already, only the origins are added, in the order of ``ORIGINS``.

    So a tag that was dropped stays dropped.
    """
    _write(
        session,
        version_id,
        labels,
        f"""origins = ARRAY(SELECT origin FROM unnest(ARRAY{list(ORIGINS)!r}) WITH ORDINALITY AS known (origin, n)
            WHERE origin = ANY (label.origins || excluded.origins) ORDER BY n)""",  # noqa: S608  (constants)
    )


def _write(session: Session, version_id: int, labels: Sequence[Label], on_conflict: str) -> None:
    if not labels:
        return
    ordered = sorted(labels, key=lambda label: (label.image_id, label.tag_id))
    driver_connection(session).execute(
        f"""
        INSERT INTO dataset_label AS label ({_COLUMNS}, version_id)
        SELECT image_id, tag_id, CAST(given.origins AS text[]), reason, certainty, evidence, {version_id:d}
        FROM unnest(CAST(%(ids)s AS bigint[]), CAST(%(tags)s AS smallint[]), CAST(%(origins)s AS text[]),
            CAST(%(reasons)s AS text[]), CAST(%(certainties)s AS real[]), CAST(%(evidence)s AS jsonb[]))
            AS given ({_COLUMNS})
        JOIN dataset_item AS item USING (image_id) JOIN image ON image.id = image_id
        WHERE item.version_id = {version_id:d}
        ORDER BY image_id, tag_id FOR KEY SHARE OF image
        ON CONFLICT (image_id, version_id, tag_id) DO UPDATE SET {on_conflict}
        """,  # noqa: S608  (constants and numbers)
        {
            "ids": [label.image_id for label in ordered],
            "tags": [label.tag_id for label in ordered],
            "origins": [f"{{{','.join(label.origins)}}}" for label in ordered],
            "reasons": [label.reason for label in ordered],
            "certainties": [label.certainty for label in ordered],
            "evidence": [None if label.evidence is None else json.dumps(dict(label.evidence)) for label in ordered],
        },
    )


def copy(session: Session, parent_id: int, version_id: int, first: int, last: int) -> int:
    """Copy the labels of pictures of a version to another one, those with ids from ``first`` to ``last``.

    Dropped ones are copied too. The pictures must be there. Return how many.
    """
    copied = session.execute(
        text(
            f"""
            INSERT INTO dataset_label ({_COLUMNS}, version_id)
            SELECT image_id, tag_id, label.origins, reason, certainty, evidence, {version_id:d}
            FROM dataset_label AS label JOIN dataset_item AS item USING (image_id) JOIN image ON image.id = image_id
            WHERE label.version_id = {parent_id:d} AND item.version_id = {version_id:d}
                AND image_id BETWEEN :first AND :last
            ORDER BY image_id, tag_id FOR KEY SHARE OF image ON CONFLICT DO NOTHING
            """  # noqa: S608  (constants and numbers)
        ),
        {"first": first, "last": last},
    )
    return int(copied.rowcount)  # type: ignore[attr-defined]  # an INSERT's result is a CursorResult


def of_images(session: Session, version_id: int, image_ids: Sequence[int]) -> dict[int, list[Label]]:
    """Return the labels of pictures that have any, dropped ones too, by tag id."""
    found: dict[int, list[Label]] = {}
    for label in _labels(session, version_id, "image_id = ANY(:ids) ORDER BY image_id, tag_id", {"ids": [*image_ids]}):
        found.setdefault(label.image_id, []).append(label)
    return found


def between(session: Session, version_id: int, first: int, last: int) -> list[Label]:
    """Return the labels of the pictures with ids from ``first`` to ``last``, dropped ones too, by image and tag."""
    return _labels(
        session,
        version_id,
        "image_id BETWEEN :first AND :last ORDER BY image_id, tag_id",
        {"first": first, "last": last},
    )


def of_tag(
    session: Session,
    version_id: int,
    tag_id: int,
    *,
    after: int = 0,
    limit: int = 1000,
    is_dropped: bool | None = None,
) -> list[Label]:
    """Return the next labels of a tag after an image id, by image. ``is_dropped``: only those, or only the others."""
    return _labels(
        session,
        version_id,
        """tag_id = :tag_id AND image_id > :after
           AND (CAST(:is_dropped AS boolean) IS NULL OR (reason IS NOT NULL) = :is_dropped)
           ORDER BY image_id LIMIT :limit""",
        {"tag_id": tag_id, "after": after, "limit": limit, "is_dropped": is_dropped},
    )


def _labels(session: Session, version_id: int, condition: str, values: dict[str, Any]) -> list[Label]:
    rows = session.execute(
        text(
            f"SELECT {_COLUMNS} FROM dataset_label WHERE version_id = {version_id:d} AND {condition}"  # noqa: S608
        ),
        values,
    )
    return [Label(*row) for row in rows]


def tag_counts(session: Session, version_id: int) -> list[TagCount]:
    """Count the labels of each tag that has any, most pictures first."""
    rows = session.execute(
        text(
            f"""
            SELECT tag_id, reason, origins, count(*) AS images FROM dataset_label
            WHERE version_id = {version_id:d} GROUP BY tag_id, reason, origins ORDER BY tag_id
            """  # noqa: S608  (a number)
        )
    )
    kept: dict[int, int] = {}
    dropped: dict[int, dict[str, int]] = {}
    origins: dict[int, dict[str, int]] = {}
    for row in rows:
        kept.setdefault(row.tag_id, 0)
        if row.reason is not None:
            of_tag_ = dropped.setdefault(row.tag_id, {})
            of_tag_[row.reason] = of_tag_.get(row.reason, 0) + row.images
            continue
        kept[row.tag_id] += row.images
        by_origin = origins.setdefault(row.tag_id, {})
        for origin in row.origins:
            by_origin[origin] = by_origin.get(origin, 0) + row.images
    found = [TagCount(tag_id, n, dropped.get(tag_id, {}), origins.get(tag_id, {})) for tag_id, n in kept.items()]
    return sorted(found, key=lambda each: (-each.kept, each.tag_id))


@dataclass(frozen=True, slots=True)
class TagChange:
    """How many pictures have a tag in one version and not in another: ``added`` and ``removed``."""

    tag_id: int
    added: int
    removed: int


def changes(session: Session, old_id: int, new_id: int) -> list[TagChange]:
    """Compare the kept labels of two versions. Return the tags with changes, most changes first."""
    rows = session.execute(
        text(
            f"""
            SELECT tag_id, count(*) FILTER (WHERE was IS NULL) AS added,
                count(*) FILTER (WHERE is_now IS NULL) AS removed
            FROM (
                SELECT tag_id, image_id, was.image_id AS was, now.image_id AS is_now FROM
                    (SELECT tag_id, image_id FROM dataset_label WHERE version_id = {old_id:d} AND reason IS NULL) AS was
                FULL JOIN
                    (SELECT tag_id, image_id FROM dataset_label WHERE version_id = {new_id:d} AND reason IS NULL) AS now
                USING (tag_id, image_id)
            ) AS pair WHERE was IS NULL OR is_now IS NULL
            GROUP BY tag_id ORDER BY count(*) DESC, tag_id
            """  # noqa: S608  (numbers)
        )
    )
    return [TagChange(row.tag_id, int(row.added), int(row.removed)) for row in rows]

"""What a whole version has: its counts, and the hash that shows whether anything in it changed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage.database import driver_connection

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_ROWS = (
    """SELECT image_id, version, is_validation, group_id, captions, origins FROM dataset_item
       WHERE version_id = {version_id} ORDER BY image_id""",
    """SELECT image_id, tag_id, origins, reason, certainty, evidence FROM dataset_label
       WHERE version_id = {version_id} ORDER BY image_id, tag_id""",
)


def sha256(session: Session, version_id: int) -> str:
    """Return the SHA-256 (hex) over all pictures and labels of a version, each in one line, in order of their ids."""
    digest = hashlib.sha256()
    connection = driver_connection(session)
    # However the server is set up, numbers are written in one way.
    connection.execute("SET LOCAL extra_float_digits = 1")
    for rows in _ROWS:
        with connection.cursor().copy(f"COPY ({rows.format(version_id=int(version_id))}) TO STDOUT") as copy:
            for line in copy:
                digest.update(line)
        digest.update(b"\n")
    return digest.hexdigest()


def counts(session: Session, version_id: int) -> dict[str, Any]:
    """Count what a version has.

    Returns:
        ``images``, ``validation``, ``groups`` (of two or more pictures), ``in_groups`` (pictures in these),
        ``without_labels``, ``captions`` by origin, ``labels`` (kept) by origin, ``kept``, ``dropped`` by reason, and
        ``tags`` (with at least one picture).
    """
    version = {"id": version_id}
    items = session.execute(
        text(
            """
            SELECT count(*) AS images, count(*) FILTER (WHERE is_validation) AS validation,
                count(*) FILTER (WHERE NOT EXISTS (SELECT FROM dataset_label AS label
                    WHERE label.version_id = :id AND label.image_id = item.image_id AND label.reason IS NULL))
                    AS without_labels
            FROM dataset_item AS item WHERE version_id = :id
            """
        ),
        version,
    ).one()
    groups = session.execute(
        text(
            """SELECT count(*) AS groups, coalesce(sum(size), 0) AS in_groups FROM (
                   SELECT count(*) AS size FROM dataset_item WHERE version_id = :id AND group_id IS NOT NULL
                   GROUP BY group_id HAVING count(*) > 1) AS grouped"""
        ),
        version,
    ).one()
    labels = session.execute(
        text(
            """SELECT count(*) FILTER (WHERE reason IS NULL) AS kept,
                   count(DISTINCT tag_id) FILTER (WHERE reason IS NULL) AS tags
               FROM dataset_label WHERE version_id = :id"""
        ),
        version,
    ).one()
    return {
        "images": items.images,
        "validation": items.validation,
        "groups": groups.groups,
        "in_groups": int(groups.in_groups),
        "without_labels": items.without_labels,
        "captions": _by(
            session,
            "SELECT origin, count(*) FROM dataset_item, unnest(origins) AS origin WHERE version_id = :id GROUP BY 1",
            version_id,
        ),
        "kept": labels.kept,
        "tags": labels.tags,
        "labels": _by(
            session,
            """SELECT origin, count(*) FROM dataset_label, unnest(origins) AS origin
               WHERE version_id = :id AND reason IS NULL GROUP BY 1""",
            version_id,
        ),
        "dropped": _by(
            session,
            "SELECT reason, count(*) FROM dataset_label WHERE version_id = :id AND reason IS NOT NULL GROUP BY 1",
            version_id,
        ),
    }


def _by(session: Session, statement: str, version_id: int) -> dict[str, int]:
    return {name: int(count) for name, count in sorted(session.execute(text(statement), {"id": version_id}).all())}

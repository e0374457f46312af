"""Partitions of a version's pictures and labels. With its own partitions, deleting a version means deleting files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

TABLES = ("dataset_item", "dataset_label")


def create(session: Session, version_id: int) -> None:
    """Create the partitions of a new version. Listings of images wait until the transaction ends."""
    for table in TABLES:
        name = partition(table, version_id)
        session.execute(text(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)"))
        session.execute(text(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES IN ({version_id:d})"))


def drop(session: Session, version_id: int) -> None:
    """Delete a version's pictures and labels, if they are there."""
    for table in TABLES:
        session.execute(text(f"DROP TABLE IF EXISTS {partition(table, version_id)}"))


def partition(table: str, version_id: int) -> str:
    """Return the name of the partition of a version."""
    return f"{table}_v{version_id:d}"

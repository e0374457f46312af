"""Partitions of a version's pictures and labels. With its own partitions, deleting a version means deleting files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg.errors import LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from storage.errors import ConflictError
from storage.results.partitions import truncate

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

TABLES = ("dataset_item", "dataset_label")

_PATIENCE = "500ms"
"""How long ``drop_unused`` waits for users of any version. Later transactions on data sets wait for it in turn."""


def create(session: Session, version_id: int) -> None:
    """Create the partitions of a new version. Listings of images wait until the transaction ends."""
    for table in TABLES:
        name = partition(table, version_id)
        session.execute(text(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)"))
        session.execute(text(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES IN ({version_id:d})"))


def empty(session: Session, version_id: int) -> None:
    """Delete a version's pictures and labels, if they are there. Lock the version first, as tasks do.

    The partitions stay, empty, until ``drop_unused``: removing them would wait for the users of all other versions.

    Raises:
        ConflictError: other transactions use them for long.
    """
    names = [partition(table, version_id) for table in TABLES]
    known = [name for name in names if session.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is not None]
    truncate(session, known, "the pictures and labels of this version are in use: try again in a minute")


def drop_unused(session: Session) -> None:
    """Remove the partitions of versions that were cancelled or deleted.

    The transaction must do nothing else: it blocks all data sets.

    Raises:
        ConflictError: others use data sets now.
    """
    rows = session.scalars(
        text(
            """SELECT own.relname FROM pg_inherits JOIN pg_class AS own ON own.oid = inhrelid
               WHERE inhparent IN ('dataset_item'::regclass, 'dataset_label'::regclass)
                 AND NOT EXISTS (SELECT FROM dataset_version AS version WHERE version.state <> 'cancelled'
                     AND own.relname IN ('dataset_item_v' || version.id, 'dataset_label_v' || version.id))
               ORDER BY 1"""
        )
    ).all()
    if not rows:
        return
    session.execute(text(f"SET LOCAL lock_timeout = '{_PATIENCE}'"))
    try:
        for name in rows:
            session.execute(text(f"DROP TABLE {name}"))
    except OperationalError as error:
        if not isinstance(error.orig, LockNotAvailable):
            raise
        raise ConflictError("data sets are in use, so what remains of deleted ones stays for now") from error


def partition(table: str, version_id: int) -> str:
    """Return the name of the partition of a version."""
    return f"{table}_v{version_id:d}"

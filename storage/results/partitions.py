"""Partitions of a generation's results. With its own partitions, dropping a generation means deleting files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg.errors import LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from storage.database import wait_for_lock
from storage.errors import ConflictError
from storage.results.metadata import STAGE as METADATA
from storage.results.spaces import SPACES
from storage.tables import RECOGNITION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

TABLES = {
    RECOGNITION: ("record", "vector"),
    "text": ("reading", "reading_index"),
    "locate": ("localization",),
    "crops": ("cropping", "crop"),
    **dict.fromkeys(SPACES, ("look",)),
    METADATA: (),
}
"""The tables of each stage's results. Each has ``image_id``, ``generation_id``, and a partition for each generation of
the stage. The first one has a row for each result, with its ``job_id`` and ``version``. What files say belongs to no
generation: the table ``metadata`` has a row for each image, whatever read its file."""

RESULT_TIMES = {
    "record": "recorded_at",
    "reading": "read_at",
    "localization": "located_at",
    "cropping": "cropped_at",
    "look": "looked_at",
}
"""The column of the first table of each stage that says when a result was stored."""

PARTS = 8
"""Hash partitions of a generation. With a billion images each has 125 million. They can be vacuumed, reindexed and
moved to another disk one by one."""

PATIENCE = "10s"
"""How long emptying a generation waits for its readers. Later transactions wait for it in turn."""

_LOCK = 7_263_774
"""Advisory lock: two workers that register the same generation must not both create its partitions."""


def ensure(session: Session, generation_id: int, stage: str = RECOGNITION) -> None:
    """Create the partitions of a generation unless they exist.

    They are created separately and then attached. This blocks no readers or writers of results. Listings of images wait
    until the transaction ends.
    """
    tables = TABLES[stage]
    if not tables or _are_there(session, tables, generation_id):
        return
    wait_for_lock(session, _LOCK)
    if _are_there(session, tables, generation_id):
        return
    for table in tables:
        name = partition(table, generation_id)
        session.execute(text(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL) PARTITION BY HASH (image_id)"))
        for part in range(PARTS):
            session.execute(
                text(
                    f"CREATE TABLE {name}_p{part} PARTITION OF {name} "
                    f"FOR VALUES WITH (MODULUS {PARTS}, REMAINDER {part})"
                )
            )
        session.execute(text(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES IN ({generation_id:d})"))


def empty(session: Session, generation_id: int, stage: str = RECOGNITION) -> None:
    """Erase all results of a generation at once, whatever their number. The commit frees the disk space.

    The partitions stay, empty: removing them would block every search.

    Raises:
        ConflictError: other transactions use these results for longer than ``PATIENCE``.
    """
    truncate(
        session,
        [partition(table, generation_id) for table in TABLES[stage]] or [METADATA],
        f"the results of generation {generation_id} are in use: try again",
    )


def truncate(session: Session, names: Sequence[str], in_use: str) -> None:
    """Empty partitions at once. Raises ``ConflictError`` with ``in_use`` if they are in use too long."""
    session.execute(text(f"SET LOCAL lock_timeout = '{PATIENCE}'"))
    try:
        for name in names:
            session.execute(text(f"TRUNCATE {name}"))
    except OperationalError as error:
        if not isinstance(error.orig, LockNotAvailable):
            raise
        raise ConflictError(in_use) from error
    session.execute(text("SET LOCAL lock_timeout = DEFAULT"))


def count(session: Session, table: str, generation_id: int) -> int:
    """Return how many rows of a table belong to a generation."""
    statement = text(f"SELECT count(*) FROM {table} WHERE generation_id = :id")  # noqa: S608  (one of ``TABLES``)
    return int(session.scalar(statement, {"id": generation_id}) or 0)


def results(session: Session, stage: str, generation_id: int) -> int:
    """Return how many results a generation of a stage has."""
    if stage == METADATA:
        return int(session.scalar(text("SELECT count(*) FROM metadata")) or 0)
    return count(session, TABLES[stage][0], generation_id)


def partition(table: str, generation_id: int) -> str:
    """Return the name of the partition of a generation."""
    return f"{table}_g{generation_id:d}"


def _are_there(session: Session, tables: Sequence[str], generation_id: int) -> bool:
    name = partition(tables[-1], generation_id)
    return session.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is not None

"""The images in which words stand, from PostgreSQL: all of them, or what changed since a snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage.database import driver_connection, with_settings
from storage.results.moments import HEAD, Changes, Moment, ids_of
from storage.results.partitions import partition

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

MAX_CHANGED = 5_000
"""Images that changed since a snapshot. More are not told apart: finding all that match takes as long."""

# The generation is part of the statements, see ``storage.results.readings``. ``array_send`` is PostgreSQL's binary form
# of an array, which NumPy reads at once; as numbers, a million ids take half a second.
_ALL = """
    SELECT {head}, (
        SELECT array_send(array_agg(image_id)) FROM reading_index
        WHERE generation_id = {generation_id:d} AND words @@ %(query)s::tsquery)
"""
_CHANGED = """
    WITH changed AS MATERIALIZED (
        SELECT image_id, words @@ %(query)s::tsquery AS holds FROM reading_index
        WHERE generation_id = {generation_id:d} AND xid >= pg_snapshot_xmin(%(snapshot)s::pg_snapshot)
            AND NOT pg_visible_in_snapshot(xid, %(snapshot)s::pg_snapshot)
        LIMIT {limit:d}
    )
    SELECT {head}, (SELECT array_send(array_agg(image_id)) FROM changed),
        (SELECT array_send(array_agg(image_id)) FROM changed WHERE holds)
"""


@dataclass(frozen=True, slots=True)
class Having:
    """Images whose words match a ``tsquery``, under a generation of the stage ``text``."""

    generation_id: int
    query: str

    def images(self, session: Session) -> tuple[Moment, NDArray[np.int64]]:
        """Return their ids, ascending."""
        return images(session, self.generation_id, self.query)

    def changes(self, session: Session, since: Moment) -> Changes | None:
        """Return what changed since a moment; None if that is too much, or the generation was emptied since."""
        return changes(session, self.generation_id, self.query, since)


def images(session: Session, generation_id: int, query: str) -> tuple[Moment, NDArray[np.int64]]:
    """Return the ids, ascending, of the images whose words match.

    Args:
        session: a transaction.
        generation_id: a generation of the stage ``text``.
        query: a valid ``tsquery``.
    """
    statement = _ALL.format(head=_head(generation_id), generation_id=generation_id)
    # PostgreSQL takes reading a table from end to end for cheaper than it is, and compiling for worth its time.
    # The rest of a transaction only reads rows by their keys, so this needs no undoing.
    with with_settings(session, enable_seqscan="off", jit="off") as connection:
        row = connection.execute(statement, {"query": query}, binary=True).fetchone()
    assert row is not None
    return Moment(*row[:3]), ids_of(row[3])


def changes(session: Session, generation_id: int, query: str, since: Moment) -> Changes | None:
    """Return what changed since a moment; None if that is too much, or the generation was emptied since."""
    statement = _CHANGED.format(head=_head(generation_id), generation_id=generation_id, limit=MAX_CHANGED + 1)
    values = {"query": query, "snapshot": since.snapshot}
    row: Any = driver_connection(session).execute(statement, values, binary=True).fetchone()
    now, changed = Moment(*row[:3]), ids_of(row[3])
    if now.file != since.file or len(changed) > MAX_CHANGED:
        return None
    return Changes(now, changed, ids_of(row[4]))


def _head(generation_id: int) -> str:
    return HEAD.format(table=f"{partition('reading_index', generation_id)}_p0")

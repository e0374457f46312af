"""The images with so many regions of a tag, or so large ones: all of them, or what changed since a snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from storage.database import driver_connection
from storage.results.moments import HEAD, Changes, Moment, ids_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

MAX_CHANGED = 5_000
"""Images that changed since a snapshot. More are not told apart: finding all that match takes as long."""

# ``array_send`` is PostgreSQL's binary form of an array, see ``storage.results.reading_search``.
_HEAD = HEAD.format(table="located_image")
_LOCATED = "generation_id IS NOT NULL"
_CHANGED = """
    changed AS MATERIALIZED (
        SELECT image_id, generation_id FROM located_image WHERE xid >= pg_snapshot_xmin(%(snapshot)s::pg_snapshot)
            AND NOT pg_visible_in_snapshot(xid, %(snapshot)s::pg_snapshot)
        LIMIT {limit:d}
    )
"""


@dataclass(frozen=True, slots=True)
class Located:
    """Images in which tags were located, whatever was found."""

    def images(self, session: Session) -> tuple[Moment, NDArray[np.int64]]:
        """Return their ids, ascending."""
        return _all(session, f"SELECT image_id FROM located_image WHERE {_LOCATED}", {})  # noqa: S608  (a constant)

    def changes(self, session: Session, since: Moment) -> Changes | None:
        """Return what changed since a moment; None if that is too much."""
        return _changes(session, f"SELECT image_id FROM changed WHERE {_LOCATED}", {}, since)  # noqa: S608


@dataclass(frozen=True, slots=True)
class Counted:
    """Images with regions of a tag.

    Attributes:
        names: the folded name of the tag, and of its kinds, whose regions are added up.
        column: what is compared: the number of ``regions``, or the ``area``, in units of ``1 / AREA_SCALE``.
        low: at least this, 1 or more.
        high: at most this; None: no limit.
    """

    names: tuple[str, ...]
    column: Literal["regions", "area"]
    low: int
    high: int | None

    def images(self, session: Session) -> tuple[Moment, NDArray[np.int64]]:
        """Return their ids, ascending."""
        return _all(session, f"SELECT image_id FROM region_count {self._matching}", self._values)  # noqa: S608

    def changes(self, session: Session, since: Moment) -> Changes | None:
        """Return what changed since a moment; None if that is too much."""
        among = f"SELECT image_id FROM changed JOIN region_count USING (image_id) {self._matching}"  # noqa: S608
        return _changes(session, among, self._values, since)

    @property
    def _matching(self) -> str:
        is_one = len(self.names) == 1
        counted = self.column if is_one else f"sum({self.column})"
        below = "" if self.high is None else f" AND {counted} <= %(high)s"
        asked = f"{counted} >= %(low)s{below}"
        if is_one:
            return f"WHERE name = %(name)s AND {asked}"
        return f"WHERE name = ANY(%(names)s) GROUP BY image_id HAVING {asked}"

    @property
    def _values(self) -> dict[str, object]:
        return {"name": self.names[0], "names": list(self.names), "low": self.low, "high": self.high}


def _all(session: Session, found: str, values: dict[str, object]) -> tuple[Moment, NDArray[np.int64]]:
    connection = driver_connection(session)
    # PostgreSQL takes reading a table from end to end for cheaper than it is, and compiling for worth its time.
    # The rest of the transaction only reads rows by their keys, so this needs no undoing.
    connection.execute("SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)")
    statement = f"SELECT {_HEAD}, (SELECT array_send(array_agg(image_id)) FROM ({found}) AS found)"  # noqa: S608
    row = connection.execute(statement, values, binary=True).fetchone()
    assert row is not None
    return Moment(*row[:3]), ids_of(row[3])


def _changes(session: Session, found: str, values: dict[str, object], since: Moment) -> Changes | None:
    statement = f"""
        WITH {_CHANGED.format(limit=MAX_CHANGED + 1)}
        SELECT {_HEAD}, (SELECT array_send(array_agg(image_id)) FROM changed),
            (SELECT array_send(array_agg(image_id)) FROM ({found}) AS found)
    """  # noqa: S608  (constants)
    wanted = {**values, "snapshot": since.snapshot}
    row: Any = driver_connection(session).execute(statement, wanted, binary=True).fetchone()
    now, changed = Moment(*row[:3]), ids_of(row[3])
    if now.file != since.file or len(changed) > MAX_CHANGED:
        return None
    return Changes(now, changed, ids_of(row[4]))

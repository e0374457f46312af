"""Where the rows of an index come from: a source for each stage whose results are vectors.

A row has an id, a vector and the columns of ``projection.RawRows``. An index is the same whatever its source: the
builder, the readers and the checks in ``storage.index`` know only ``RowSource``. Another kind of vectors needs an entry
in ``SOURCES``, and a table with ``image_id``, ``generation_id``, ``v`` and ``xid`` that records what it erases in
``erasure``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from sqlalchemy import select, text

from storage.database import driver_connection
from storage.errors import NoGenerationError
from storage.results import projection
from storage.results.spaces import SPACES
from storage.tables import RECOGNITION, Generation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.results.projection import RawRows
    from storage.results.vectors import Window

REGIONS_EACH = 512
"""A region's row has this many times the id of its image, plus the number of the region."""


class RowSource(Protocol):
    """The rows of the indexes of one kind of generations, in the database."""

    @property
    def rows_each(self) -> int:
        """How many ids belong to an image: those from ``rows_each`` times its own. 1: they are the ids of images."""

    def named(self, row_id: int) -> str:
        """Name a row for people, for example ``image 12``."""

    def ids(self, session: Session, window: Window) -> NDArray[np.int64]:
        """Return the ids of the rows of a window, ascending."""

    def erased(self, session: Session, window: Window) -> NDArray[np.int64]:
        """Return the ids of the rows erased within a window that do not exist now, ascending."""

    def has_any(self, session: Session, window: Window) -> tuple[bool, bool]:
        """Return whether a window holds rows, and whether any were erased within it."""

    def count(self, session: Session, window: Window) -> int:
        """Return how many rows a window holds."""

    def end_of_slice(self, session: Session, window: Window, limit: int) -> int:
        """Return the ``hi`` that cuts about ``limit`` rows off the front of a bounded window.

        The slice has at least one transaction.
        """

    def stamp_again(self, session: Session, generation_id: int, limit: int) -> int:
        """Give this transaction's id to up to ``limit`` rows that have a future one. Return how many.

        Such rows come from a dump that was restored into a younger cluster.
        """

    def rows(self, session: Session, window: Window, size: int) -> Iterator[tuple[RawRows, NDArray[np.float16]]]:
        """Yield the rows of a window and their vectors of ``size`` numbers; see ``projection.rows``."""


@dataclass(frozen=True, slots=True)
class TableRows:
    """The rows of a table; see ``RowSource``.

    Attributes:
        table: its name.
        key: the columns that identify a row within a generation, as in SQL.
        row_id: the SQL of a row's id, with the row ``v``.
        is_erased: the SQL of whether a row ``v`` is the one of the erasure ``e``. Its index must serve it.
        shown: the SQL of the columns after the id: archive, job, modified, size, vector, key, tags, scores.
        joined: the tables that they need.
        rows_each: see ``RowSource``.
    """

    table: str
    key: str
    row_id: str
    is_erased: str
    shown: str
    joined: str
    rows_each: int = 1

    def named(self, row_id: int) -> str:
        """See ``RowSource``."""
        image_id, number = divmod(row_id, self.rows_each)
        return f"image {image_id}" if self.rows_each == 1 else f"region {number} of image {image_id}"

    def ids(self, session: Session, window: Window) -> NDArray[np.int64]:
        """See ``RowSource``."""
        return _ids(session, f"SELECT {self.row_id} AS id FROM {self._in(window)}", window)  # noqa: S608

    def erased(self, session: Session, window: Window) -> NDArray[np.int64]:
        """See ``RowSource``.

        The table decides, not the order of transaction ids. If two transactions write the same row, the one with the
        lower id may be the later one.
        """
        query = f"""
            SELECT e.image_id AS id FROM erasure AS e WHERE {window.condition("e")} AND NOT EXISTS (
                SELECT 1 FROM {self.table} AS v WHERE {self.is_erased} AND v.generation_id = e.generation_id)
            """  # noqa: S608  (constants only)
        return _ids(session, query, window)

    def has_any(self, session: Session, window: Window) -> tuple[bool, bool]:
        """See ``RowSource``."""
        query = f"""SELECT EXISTS (SELECT FROM {self._in(window)}),
            EXISTS (SELECT FROM erasure AS e WHERE {window.condition("e")})"""  # noqa: S608  (constants only)
        found = driver_connection(session).execute(query, window.values).fetchone()
        assert found is not None
        return bool(found[0]), bool(found[1])

    def count(self, session: Session, window: Window) -> int:
        """See ``RowSource``."""
        query = f"SELECT count(*) FROM {self._in(window)}"  # noqa: S608  (constants only)
        found = driver_connection(session).execute(query, window.values).fetchone()
        assert found is not None
        return int(found[0])

    def end_of_slice(self, session: Session, window: Window, limit: int) -> int:
        """See ``RowSource``."""
        assert window.hi is not None
        query = f"SELECT v.xid::text FROM {self._in(window)} ORDER BY v.xid OFFSET %(limit)s LIMIT 1"  # noqa: S608
        found = driver_connection(session).execute(query, window.values | {"limit": limit}).fetchone()
        return window.hi if found is None else max(int(found[0]), window.lo + 1)

    def stamp_again(self, session: Session, generation_id: int, limit: int) -> int:
        """See ``RowSource``."""
        stamped = session.execute(
            text(
                f"""
                UPDATE {self.table} SET xid = pg_current_xact_id()
                WHERE generation_id = :generation_id AND ({self.key}) IN (
                    SELECT {self.key} FROM {self.table}
                    WHERE generation_id = :generation_id AND xid > pg_current_xact_id() LIMIT :limit)
                RETURNING 1
                """  # noqa: S608  (constants only)
            ),
            {"generation_id": generation_id, "limit": limit},
        )
        return len(stamped.all())

    def rows(self, session: Session, window: Window, size: int) -> Iterator[tuple[RawRows, NDArray[np.float16]]]:
        """See ``RowSource``."""
        query = f"""SELECT {self.row_id} AS id, {self.shown} FROM {self.table} AS v {self.joined}
            WHERE {window.condition("v")} ORDER BY id"""  # noqa: S608  (constants only)
        return projection.rows(session, query, window, size, self.named)

    def _in(self, window: Window) -> str:
        return f"{self.table} AS v WHERE {window.condition('v')}"


_ONLY_ARCHIVE = """i.archive_id, 0::bigint, '-infinity'::timestamptz, 0::bigint, v.v, ''::text, '{}'::smallint[],
    '{}'::smallint[]"""
_IMAGE = "JOIN image AS i ON i.id = v.image_id"
_LOOKS = TableRows(
    table="look",
    key="image_id",
    row_id="v.image_id",
    is_erased="v.image_id = e.image_id",
    shown=_ONLY_ARCHIVE,
    joined=_IMAGE,
)

SOURCES: dict[str, RowSource] = {
    # Every change of a fact that is shown here must touch the vector (``vectors.touch``).
    RECOGNITION: TableRows(
        table="vector",
        key="image_id",
        row_id="v.image_id",
        is_erased="v.image_id = e.image_id",
        shown="""i.archive_id, coalesce(r.job_id, 0), coalesce(i.modified_at, '-infinity'), i.size, v.v, i.key,
            coalesce(c.tags, '{}'), coalesce(c.scores, '{}')""",
        joined="""JOIN image AS i ON i.id = v.image_id
            LEFT JOIN record AS r ON r.image_id = v.image_id AND r.generation_id = v.generation_id
            CROSS JOIN LATERAL corrected_tags(v.image_id, v.generation_id, r.tags, r.scores) AS c""",
    ),
    # Which images are searched is decided by what recognition knows of them. Only what never changes is shown of other
    # rows, so that nothing about an image makes their indexes read it again.
    "crops": TableRows(
        table="crop",
        key="image_id, number",
        row_id=f"v.image_id * {REGIONS_EACH} + v.number",
        is_erased=f"v.image_id = e.image_id / {REGIONS_EACH} AND v.number = mod(e.image_id, {REGIONS_EACH})",
        shown=_ONLY_ARCHIVE,
        joined=_IMAGE,
        rows_each=REGIONS_EACH,
    ),
    **dict.fromkeys(SPACES, _LOOKS),
}
"""The source of each stage whose results are vectors."""


def source_of(session: Session, generation_id: int) -> RowSource:
    """Return the source of a generation's rows.

    Raises:
        NoGenerationError: there is no such generation, or it has no vectors.
    """
    stage = session.scalar(
        select(Generation.stage).where(Generation.id == generation_id, Generation.dropped_at.is_(None))
    )
    if stage not in SOURCES:
        has_none = "" if stage is None else " with vectors"
        raise NoGenerationError(f"there is no generation {generation_id}{has_none}")
    return SOURCES[stage]


def indexed(session: Session, *, with_dropped: bool = False) -> dict[int, RowSource]:
    """Return the generations that have an index, oldest first, each with the source of its rows.

    Args:
        session: a transaction.
        with_dropped: also those that were dropped: files of them may be left.
    """
    known = select(Generation.id, Generation.stage).where(Generation.stage.in_(SOURCES)).order_by(Generation.id)
    rows = session.execute(known if with_dropped else known.where(Generation.dropped_at.is_(None)))
    return {row.id: SOURCES[row.stage] for row in rows}


def _ids(session: Session, query: str, window: Window) -> NDArray[np.int64]:
    with driver_connection(session).cursor(binary=True) as cursor:
        cursor.execute(f"SELECT string_agg(int8send(id), ''::bytea) FROM ({query}) AS found", window.values)  # noqa: S608
        found = cursor.fetchone()
    joined = b"" if found is None or found[0] is None else found[0]
    return np.sort(np.frombuffer(joined, dtype=">i8").astype(np.int64))

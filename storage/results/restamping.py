"""Transaction ids of rows after a restore: a dump has those of the server that it is from.

What follows a table, in memory or in an index, asks for the rows that later transactions wrote (``xid``). In a cluster
that counts from the beginning, rows of a dump have ids that are still to come: they look changed for ever, and what is
new looks older than they are. So they get the id of a transaction of this cluster, once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.database import unit_of_work

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

FOLLOWED = {
    "content": "image_id",
    "erasure": "image_id, generation_id",
    "keyword": "image_id",
    "located_image": "image_id",
    "metadata": "image_id",
    "reading_index": "image_id, generation_id",
}
"""Tables with ``xid``, and their keys. Not those whose rows are in an index (``index_rows``): builders stamp these."""

ROWS_AT_ONCE = 50_000

# Of an image whose regions were cropped as they are, this must stay true.
_CROPPED = """, cropped AS (
    UPDATE cropping SET regions_xid = pg_current_xact_id() FROM future
    WHERE cropping.image_id = future.image_id AND regions_xid = future.xid)"""


def stamp_again(engine: Engine) -> int:
    """Give ids of this cluster to all rows that have a future one. Return how many there were.

    Many rows take many transactions. If it is interrupted, the next call does the rest. If there are none, it is cheap
    where there is an index of ``xid``, which erasures of all generations together do not have.
    """
    stamped = 0
    for table in FOLLOWED:
        rows = ROWS_AT_ONCE
        while rows == ROWS_AT_ONCE:
            with unit_of_work(engine) as session:
                rows = _stamp(session, table)
            stamped += rows
    with unit_of_work(engine) as session:
        # Nothing would be newer than the last search for near copies. With 0, everything is, once.
        session.execute(text("UPDATE near_search SET watermark = '0'::xid8 WHERE watermark > pg_current_xact_id()"))
    return stamped


def is_restored(session: Session) -> bool:
    """Return whether rows have transaction ids that this cluster has not given yet."""
    future = "xid >= pg_snapshot_xmax(pg_current_snapshot())"
    tables = [table for table in FOLLOWED if table != "erasure"]
    statement = " OR ".join(f"EXISTS (SELECT FROM {table} WHERE {_has(table)}{future})" for table in tables)
    return bool(session.scalar(text(f"SELECT {statement}")))


def _stamp(session: Session, table: str) -> int:
    key = FOLLOWED[table]
    done = session.execute(
        text(
            f"""
            WITH future AS MATERIALIZED (
                SELECT {key}, xid FROM {table} WHERE {_has(table)}xid > pg_current_xact_id()
                ORDER BY {key} LIMIT :rows FOR UPDATE
            ){_CROPPED if table == "located_image" else ""}
            UPDATE {table} SET xid = pg_current_xact_id() FROM future
            WHERE ({", ".join(f"{table}.{name}" for name in key.split(", "))})
                = ({", ".join(f"future.{name}" for name in key.split(", "))})
            """  # noqa: S608  (constants)
        ),
        {"rows": ROWS_AT_ONCE},
    )
    return int(done.rowcount)  # type: ignore[attr-defined]


def _has(table: str) -> str:
    """Return the condition of the index of ``xid``: only rows with a shape are in it."""
    return "shape IS NOT NULL AND " if table == "content" else ""

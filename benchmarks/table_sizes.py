"""What tables of the database take on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.database import driver_connection, unit_of_work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine


def bytes_each(engine: Engine, tables: Sequence[str], count: int) -> dict[str, float]:
    """Return the bytes of each of ``count`` things in tables, all partitions together, and in their indexes."""
    sizes = {}
    with unit_of_work(engine) as session:
        for table in tables:
            found = driver_connection(session).execute(
                """SELECT sum(pg_table_size(oid)), sum(pg_indexes_size(oid)) FROM pg_class
                   WHERE relkind = 'r' AND relname ~ %s""",
                [rf"^{table}(_g\d+_p\d+)?$"],
            )
            ((own, of_indexes),) = found.fetchall()
            sizes[f"table {table}"] = round(float(own) / count, 1)
            sizes[f"its indexes, {table}"] = round(float(of_indexes) / count, 1)
    return sizes

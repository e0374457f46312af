"""All keywords of all images, to count them: those in files, and those that people gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from storage.database import driver_connection
from storage.errors import UsageError
from storage.results.metadata import LEVELS
from storage.results.moments import HEAD, Moment, numbers_of
from storage.texts import fold, fold_seen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

MAX_CHANGED = 5_000
"""Images that changed since a moment. Of more, everything is read again."""

FEW = 50_000
"""Images whose keywords a search reads itself: a quarter of a second."""

MOST_PAIRS = 10_000_000
"""Keywords of images that a process keeps: 12 bytes for each."""

SOURCES = {"metadata": ("keyword_folds", "keywords"), "keyword": ("folds", "words")}
"""The tables, and of each the columns with keywords as they are compared, and as they are written."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which images have which keywords, levels of hierarchies included.

    Attributes:
        places: a number for each keyword as it is compared, from 0 in this order.
        ids: (N,) ids of images, in any order.
        numbers: (N,) the number of a keyword of each.
    """

    places: Mapping[str, int]
    ids: NDArray[np.int64]
    numbers: NDArray[np.int32]

    def changed(self, image_ids: NDArray[np.int64], now: Sequence[tuple[int, Sequence[str]]]) -> Pairs:
        """Return the same with other keywords of some images."""
        places = dict(self.places)
        new = [(image_id, places.setdefault(each, len(places))) for image_id, folds in now for each in folds]
        is_kept = ~np.isin(self.ids, image_ids)
        return Pairs(
            places,
            np.concatenate([self.ids[is_kept], np.array([one for one, _ in new], dtype=np.int64)]),
            np.concatenate([self.numbers[is_kept], np.array([place for _, place in new], dtype=np.int32)]),
        )


def is_large(session: Session, table: str) -> bool:
    """Return whether reading all keywords of one of ``SOURCES`` takes long, as PostgreSQL estimates its rows."""
    row = driver_connection(session).execute(
        "SELECT reltuples FROM pg_class WHERE oid = CAST(%(table)s AS regclass)", {"table": table}
    )
    found = row.fetchone()
    return found is not None and found[0] > FEW


def every(session: Session, table: str) -> tuple[Moment, Pairs]:
    """Return the keywords of all images in one of ``SOURCES``, and when they were read.

    Raises:
        UsageError: there are more than ``MOST_PAIRS``.
    """
    folds, _ = SOURCES[table]
    connection = driver_connection(session)
    # What is committed between the two statements is read again as a change, which does no harm.
    row = connection.execute(f"SELECT {HEAD.format(table=table)}", {}).fetchone()
    assert row is not None
    rows = connection.execute(
        f"""SELECT fold, array_send(array_agg(image_id)) FROM (
                SELECT image_id, unnest({folds}) AS fold FROM {table} WHERE {folds} IS NOT NULL LIMIT {MOST_PAIRS + 1}
            ) AS pair GROUP BY fold""",  # noqa: S608  (constants)
        binary=True,
    ).fetchall()
    lists = [numbers_of(array, ">i8") for _, array in rows]
    if sum(map(len, lists)) > MOST_PAIRS:
        raise UsageError(f"more than {MOST_PAIRS:,} keywords of images cannot be counted")
    numbers = np.repeat(np.arange(len(lists), dtype=np.int32), [len(each) for each in lists])
    ids = np.concatenate([np.empty(0, dtype=np.int64), *lists])
    return Moment(*row), Pairs({folded: number for number, (folded, _) in enumerate(rows)}, ids, numbers)


def since(session: Session, table: str, moment: Moment, known: Pairs) -> tuple[Moment, Pairs] | None:
    """Return the keywords as they are now; None if too much changed since ``moment``, or the table was emptied."""
    folds, _ = SOURCES[table]
    connection = driver_connection(session)
    # One statement, since each that a page takes costs a round trip.
    row = connection.execute(
        f"""SELECT {HEAD.format(table=table)}, json_agg(json_build_array(image_id, folds)) FROM (
                SELECT image_id, coalesce({folds}, '{{}}') AS folds FROM {table}
                WHERE xid >= pg_snapshot_xmin(%(snapshot)s::pg_snapshot)
                    AND NOT pg_visible_in_snapshot(xid, %(snapshot)s::pg_snapshot) LIMIT {MAX_CHANGED + 1}
            ) AS changed""",  # noqa: S608
        {"snapshot": moment.snapshot},
    ).fetchone()
    assert row is not None
    now, rows = Moment(*row[:3]), row[3] or []
    if now.file != moment.file or len(rows) > MAX_CHANGED:
        return None
    if not rows:
        return now, known
    return now, known.changed(np.array([image_id for image_id, _ in rows], dtype=np.int64), rows)


def spelling(session: Session, folded: str) -> str:
    """Return a keyword as somebody wrote it."""
    connection = driver_connection(session)
    for table, (folds, words) in reversed(SOURCES.items()):
        row = connection.execute(
            f"SELECT {words} FROM {table} WHERE {folds} @> ARRAY[%(fold)s::text] LIMIT 1",  # noqa: S608  (constants)
            {"fold": folded},
        ).fetchone()
        for word in row[0] if row else ():
            for each in (word, *word.split(LEVELS)):
                if folded in {fold(each), fold_seen(each)}:
                    return " ".join(each.split())
    return folded

"""When images were found, and what changed since: for searches that keep what they found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

HEAD = """
    CASE WHEN pg_is_in_recovery() THEN format('%%1$s:%%1$s:', pg_snapshot_xmin(pg_current_snapshot()))
        ELSE pg_current_snapshot()::text END,
    pg_relation_filenode('{table}'),
    pg_current_xact_id_if_assigned() IS NULL AND current_setting('transaction_isolation') = 'read committed'
"""
"""The columns of a ``Moment``, for a statement with parameters. ``table`` is where the images are found."""

_HEADER_BYTES = 20


@dataclass(frozen=True, slots=True)
class Moment:
    """When images were found.

    Attributes:
        snapshot: PostgreSQL's text form ``xmin:xmax:xip,…``. A standby does not list running transactions. There the
            snapshot ends at the oldest of them, so that what they change counts as changed since.
        file: of the table in which they were found. It is another one after the table was emptied.
        is_public: others see the same: this transaction has written nothing, and does not keep one snapshot.
    """

    snapshot: str
    file: int
    is_public: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """Images that changed since a moment (ids, ascending), and those of them that match now."""

    now: Moment
    changed: NDArray[np.int64]
    matching: NDArray[np.int64]


class Asked(Protocol):
    """What images are asked for. Equal ones find the same images."""

    def images(self, session: Session) -> tuple[Moment, NDArray[np.int64]]:
        """Return the ids, ascending, of the images that match."""

    def changes(self, session: Session, since: Moment) -> Changes | None:
        """Return what changed since a moment; None if that is too much, or the table was emptied since."""


def ids_of(array: bytes | None) -> NDArray[np.int64]:
    """Return the ids, ascending, in the binary form of a PostgreSQL array of bigint; None: without any."""
    return np.empty(0, dtype=np.int64) if array is None else np.sort(numbers_of(array, ">i8"))


def union(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the ids, ascending, that are in any of some arrays, each of them ascending."""
    if not parts:
        return np.empty(0, dtype=np.int64)
    ids = parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts), kind="stable")  # merges ascending runs
    is_first = np.ones(len(ids), dtype=np.bool_)
    is_first[1:] = ids[1:] != ids[:-1]
    return ids if is_first.all() else ids[is_first]


def numbers_of(array: bytes, dtype: str) -> NDArray[np.int64]:
    """Return the numbers in the binary form of a PostgreSQL array without NULL. ``dtype`` is that of its elements."""
    element = np.dtype([("bytes", ">i4"), ("value", dtype)])
    return np.frombuffer(array, dtype=element, offset=_HEADER_BYTES)["value"].astype(np.int64)

"""The images that have regions of tags, from PostgreSQL: all of a tag, and what changed since a snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import text

from storage.database import with_settings
from storage.results.moments import HEAD, Moment, ids_of, numbers_of
from storage.results.region_lists import BLOCK_BITS, RECORD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

MAX_CHANGED = 5_000
"""Images that changed since a snapshot. More are not told apart: reading all lists that are needed takes as long."""

# ``array_send`` is PostgreSQL's binary form of an array, see ``storage.results.reading_search``.
_PACKED = "array_send(array_agg(block)), array_send(array_agg(octet_length(packed))), string_agg(packed, '')"
# Without a snapshot, nothing changed.
_FIND = f"""
    WITH since AS MATERIALIZED (
        SELECT coalesce(%(snapshot)s::pg_snapshot, pg_current_snapshot()) AS snapshot
    ), changed AS MATERIALIZED (
        SELECT image_id, names FROM located_image, since WHERE xid >= pg_snapshot_xmin(snapshot)
            AND NOT pg_visible_in_snapshot(xid, snapshot) AND %(snapshot)s::text IS NOT NULL
        LIMIT {{limit:d}}
    )
    SELECT 'now', '', {HEAD.format(table="located_image")},
        (SELECT array_send(array_agg(image_id)) FROM changed), NULL::bytea, NULL::bytea
    UNION ALL
    SELECT 'changed', name, NULL, NULL, NULL, {_PACKED}
    FROM (SELECT DISTINCT (image_id >> {BLOCK_BITS})::int AS block, name
        FROM changed CROSS JOIN unnest(names || ''::text) AS name) AS touched
    JOIN region_list USING (name, block) GROUP BY name
"""  # noqa: S608  (constants)
_WHOLE = f"""
    UNION ALL
    SELECT 'whole', name, NULL, NULL, NULL, {_PACKED} FROM region_list WHERE name = ANY(%(names)s::text[]) GROUP BY name
"""  # noqa: S608  (constants)
_SIZES = text(f"""
    SELECT name, sum(octet_length(packed)) / {RECORD.itemsize} AS images FROM region_list GROUP BY name
    ORDER BY images DESC, name
""")  # noqa: S608  (constants)
_TAGS_OF = text("""
    SELECT name, count(*) FROM located_image CROSS JOIN unnest(names) AS name
    WHERE image_id = ANY(:ids) AND generation_id IS NOT NULL GROUP BY name
""")


@dataclass(frozen=True, slots=True)
class Counted:
    """Images with regions of one tag: ids (N,), ascending; for each the number of regions, and their area (N,).

    Areas are in units of ``1 / AREA_SCALE``. The arrays have the smallest types that hold them, and never change.
    """

    ids: NDArray[Any]
    regions: NDArray[Any]
    areas: NDArray[Any]

    @property
    def nbytes(self) -> int:
        """Memory that the arrays take."""
        return self.ids.nbytes + self.regions.nbytes + self.areas.nbytes

    def among(self, ids: NDArray[np.int64]) -> Counted:
        """Return those of these images (ids, ascending)."""
        places = places_of(self.ids, ids)
        return Counted(self.ids[places], self.regions[places], self.areas[places])

    def changed(self, ids: NDArray[np.int64], now: Counted) -> Counted:
        """Return the same with other contents of some images.

        Args:
            ids: images whose contents changed, ascending.
            now: those of them that have regions of the tag now.
        """
        gone = places_of(self.ids, ids)
        if not len(gone) and not len(now.ids):
            return self
        kept = Counted(*(np.delete(column, gone) for column in (self.ids, self.regions, self.areas)))
        wide = np.promote_types(kept.ids.dtype, now.ids.dtype)
        at = np.searchsorted(kept.ids.astype(wide, copy=False), now.ids.astype(wide, copy=False))
        return Counted(
            _inserted(kept.ids, now.ids, at),
            _inserted(kept.regions, now.regions, at),
            _inserted(kept.areas, now.areas, at),
        )


NONE = Counted(np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.uint8), np.empty(0, dtype=np.uint32))


@dataclass(frozen=True, slots=True)
class Changed:
    """Images whose regions changed (ids, ascending), and the regions that they have now, by tag."""

    ids: NDArray[np.int64]
    now: Mapping[str, Counted]


@dataclass(frozen=True, slots=True)
class Found:
    """What one statement found.

    Attributes:
        now: when.
        changed: what changed since the moment that was given; None: that is too much, or the table was emptied since.
        whole: the images of the names that were asked for. A name without images is left out.
    """

    now: Moment
    changed: Changed | None
    whole: Mapping[str, Counted]


def find(session: Session, since: Moment | None, names: Sequence[str]) -> Found:
    """Return what changed since a moment (None: nothing), and all images of some names, both as they are now.

    Names are folded. ``region_lists.EVERY`` has every located image, with 0 regions.
    """
    statement = _FIND.format(limit=MAX_CHANGED + 1)
    values: dict[str, object] = {"snapshot": None if since is None else since.snapshot}
    if names:
        statement, values = statement + _WHOLE, {**values, "names": list(names)}
    # PostgreSQL takes reading a table from end to end for cheaper than it is, and compiling for worth its time.
    # The rest of a transaction only reads rows by their keys, so this needs no undoing.
    settings = {"enable_seqscan": "off", "jit": "off"} if names else {}
    with with_settings(session, **settings) as connection:
        rows: list[Any] = connection.execute(statement, values, binary=True, prepare=not names).fetchall()
    head = next(row for row in rows if row[0] == "now")
    now, ids = Moment(*head[2:5]), ids_of(head[5])
    whole = {row[1]: _unpacked(*row[5:]) for row in rows if row[0] == "whole"}
    if since is None:
        return Found(now, Changed(ids, {}), whole)
    if now.file != since.file or len(ids) > MAX_CHANGED:
        return Found(now, None, whole)
    changed = {row[1]: _unpacked(*row[5:]).among(ids) for row in rows if row[0] == "changed"}
    return Found(now, Changed(ids, {name: each for name, each in changed.items() if len(each.ids)}), whole)


def sizes(session: Session) -> dict[str, int]:
    """Return the numbers of images of all names, the most first."""
    return {row.name: int(row.images) for row in session.execute(_SIZES)}


def tags_of(session: Session, image_ids: Sequence[int]) -> dict[str, int]:
    """Return by folded name how many of some images have regions of a tag. It takes some microseconds for each."""
    return {name: int(count) for name, count in session.execute(_TAGS_OF, {"ids": list(image_ids)})}


def places_of(ids: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.intp]:
    """Return where ``ids`` (ascending) has those of ``wanted`` (ascending) that it has."""
    if not len(ids):
        return np.empty(0, dtype=np.intp)
    inside = wanted[slice(*np.searchsorted(wanted, (int(ids[0]), int(ids[-1]) + 1)))].astype(ids.dtype, copy=False)
    places = np.searchsorted(ids, inside)
    found: NDArray[np.intp] = places[ids[places] == inside]
    return found


def _inserted(column: NDArray[Any], values: NDArray[Any], at: NDArray[np.intp]) -> NDArray[Any]:
    wide = np.promote_types(column.dtype, values.dtype)
    return _frozen(np.insert(column.astype(wide, copy=False), at, values))


def _unpacked(blocks: bytes, lengths: bytes, packed: bytes) -> Counted:
    """Return the images of the lists of one name, whose blocks are in any order."""
    records = np.frombuffer(packed, dtype=RECORD)
    of = np.repeat(numbers_of(blocks, ">i4"), numbers_of(lengths, ">i4") // RECORD.itemsize)
    ids = (of << BLOCK_BITS) + records["number"]
    columns = [ids, records["regions"], records["area"]]
    if np.any(ids[1:] < ids[:-1]):
        order = np.argsort(ids, kind="stable")
        columns = [column[order] for column in columns]
    return Counted(*map(_compact, columns))


def _compact(column: NDArray[Any]) -> NDArray[Any]:
    most = int(column.max(initial=0))
    return _frozen(column.astype(np.int64 if most >= 2**32 else np.min_scalar_type(most)))


def _frozen(column: NDArray[Any]) -> NDArray[Any]:
    column.flags.writeable = False
    return column

"""The images whose files say something, from PostgreSQL; and the date and camera of all images, to count and to order.

The conditions are kept between searches as those on the text in pictures are: see ``storage.search.kept_images``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.database import driver_connection
from storage.errors import UsageError
from storage.remembered import remembered
from storage.results.metadata import CELLS_AROUND, CELLS_PER_DEGREE, EARTH_KM
from storage.results.moments import HEAD, Changes, Moment, ids_of, numbers_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

MAX_CHANGED = 5_000
"""Images that changed since a moment. More are not told apart: finding all that match takes as long."""

MOST_ROWS = 10_000_000
"""Images whose dates and cameras a process keeps: 24 bytes for each."""

UNDATED = 0
"""The date of an image that has none, among microseconds since the year 1."""

UNDATED_MONTH = 0
"""The month of an image without a date; 1 is January of the year 1."""

_FIRST_MONTH, _YEAR_2000 = np.datetime64("0001-01", "M"), np.datetime64("2000-01-01", "us")
_DAYS_BEFORE_2000 = 730_119
_DAY = 86_400_000_000
_UNKNOWN = "'-infinity'"
_INFINITE = -(2**63)

_HEAD = HEAD.format(table="metadata")
_PEOPLE = "keyword"
_SINCE = """xid >= pg_snapshot_xmin(%(snapshot)s::pg_snapshot)
    AND NOT pg_visible_in_snapshot(xid, %(snapshot)s::pg_snapshot)"""
_COLUMNS = f"""array_send(array_agg(image_id)),
    array_send(array_agg(coalesce(taken_at, {_UNKNOWN}::timestamp))), array_send(array_agg(coalesce(camera_id, 0)))"""
_EVERY = f"""
    SELECT {_HEAD}, {_COLUMNS} FROM (
        SELECT image_id, taken_at, camera_id FROM metadata WHERE taken_at IS NOT NULL OR camera_id IS NOT NULL
        LIMIT {MOST_ROWS + 1}
    ) AS known
"""  # noqa: S608  (constants)
_CHANGED = f"""
    SELECT {_HEAD}, {_COLUMNS} FROM (
        SELECT image_id, taken_at, camera_id FROM metadata WHERE {_SINCE} LIMIT {MAX_CHANGED + 1}
    ) AS changed
"""  # noqa: S608  (constants)

_DISTANCE = f"""
    latitude IS NOT NULL AND {2 * EARTH_KM} * asin(sqrt(least(1, sin(radians(latitude - %(north)s) / 2) ^ 2
    + cos(radians(%(north)s)) * cos(radians(latitude)) * sin(radians(longitude - %(east)s) / 2) ^ 2))) <= %(km)s
"""
_DEVICE = "{kind}_id = ANY(ARRAY(SELECT id FROM device WHERE kind = '{kind}' AND strpos(folded, %(name)s) > 0))"


@dataclass(frozen=True, slots=True)
class Saying:
    """Images of which their files, or people, say something. All but ``values`` are constants of this module.

    Attributes:
        condition: on a row of ``table``.
        values: of the parameters in both.
        source: where rows that may meet the condition are found; None: in ``table``.
        table: ``metadata``, which has what files say, or ``keyword``, which has the keywords that people gave.
    """

    condition: str
    values: tuple[tuple[str, object], ...]
    source: str | None = None
    table: str = "metadata"

    def images(self, session: Session) -> tuple[Moment, NDArray[np.int64]]:
        """Return their ids, ascending."""
        statement = f"""SELECT {HEAD.format(table=self.table)}, (SELECT array_send(array_agg(image_id))
            FROM {self.source or self.table} WHERE {self.condition})"""  # noqa: S608
        row = driver_connection(session).execute(statement, self._values, binary=True).fetchone()
        assert row is not None
        return Moment(*row[:3]), ids_of(row[3])

    def changes(self, session: Session, since: Moment) -> Changes | None:
        """Return what changed since a moment; None if that is too much, or the table was emptied since."""
        statement = f"""
            WITH changed AS MATERIALIZED (
                SELECT image_id, {self.condition} AS holds FROM {self.table} WHERE {_SINCE} LIMIT {MAX_CHANGED + 1})
            SELECT {HEAD.format(table=self.table)}, (SELECT array_send(array_agg(image_id)) FROM changed),
                (SELECT array_send(array_agg(image_id)) FROM changed WHERE holds)
        """  # noqa: S608
        values = self._values | {"snapshot": since.snapshot}
        row: Any = driver_connection(session).execute(statement, values, binary=True).fetchone()
        now, changed = Moment(*row[:3]), ids_of(row[3])
        if now.file != since.file or len(changed) > MAX_CHANGED:
            return None
        return Changes(now, changed, ids_of(row[4]))

    @property
    def _values(self) -> dict[str, object]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.values}


def taken(since: datetime | None, until: datetime | None) -> Saying:
    """Return images that were taken in ``[since, until)``, local time; either may be open."""
    parts = {"since": "taken_at >= %(since)s::timestamp", "until": "taken_at < %(until)s::timestamp"}
    given = {name: value for name, value in (("since", since), ("until", until)) if value is not None}
    condition = " AND ".join(parts[name] for name in given) or "taken_at IS NOT NULL"
    return Saying(condition, tuple((name, value.isoformat()) for name, value in given.items()))


def by_device(kind: str, name: str) -> Saying:
    """Return images of cameras or lenses (``kind``) in whose name a folded text stands."""
    return Saying(_DEVICE.format(kind=kind), (("name", name),))


def with_keyword(folded: str) -> tuple[Saying, Saying]:
    """Return the images with a keyword in their files, and those that people gave it."""
    values = (("keyword", folded),)
    return (
        Saying("keyword_folds @> ARRAY[%(keyword)s::text]", values),
        Saying("folds @> ARRAY[%(keyword)s::text]", values, table=_PEOPLE),
    )


def in_files(session: Session, folds: Sequence[str]) -> NDArray[np.int64]:
    """Return the ids of the images that have one of some folded keywords in their files, ascending."""
    return Saying("keyword_folds && %(keywords)s::text[]", (("keywords", tuple(folds)),)).images(session)[1]


def with_words(ways: Sequence[tuple[str, ...]]) -> tuple[Saying, Saying]:
    """Return the images with all words of any of these ways: in their files, and in the keywords that people gave.

    In files: in keywords, titles and descriptions. The words are as ``storage.words`` cuts them.
    """
    condition = " OR ".join(f"tokens @> %(way_{number})s::text[]" for number in range(len(ways)))
    values = tuple((f"way_{number}", way) for number, way in enumerate(ways))
    return Saying(f"({condition})", values), Saying(f"({condition})", values, table=_PEOPLE)


def rated(low: int, high: int) -> Saying:
    """Return images with at least ``low`` and at most ``high`` stars."""
    return Saying("rating BETWEEN %(low)s AND %(high)s", (("low", low), ("high", high)))


def near(north: float, east: float, km: float) -> Saying:
    """Return images that were taken at most so many kilometres from a place, given in degrees."""
    lows, highs = cells_near(north, east, km)
    values = (("north", north), ("east", east), ("km", km), ("lows", tuple(lows)), ("highs", tuple(highs)))
    source = """unnest(%(lows)s::int[], %(highs)s::int[]) AS stretch (low, high)
        JOIN metadata ON cell BETWEEN low AND high"""
    return Saying(_DISTANCE, values, source)


def cells_near(north: float, east: float, km: float) -> tuple[Sequence[int], Sequence[int]]:
    """Return the stretches of cells that a circle touches, first and last of each: at most two for each row.

    Some that it does not touch may be among them.
    """
    degrees = math.degrees(km / EARTH_KM)
    south_end, north_end = north - degrees, north + degrees
    rows = 180 * CELLS_PER_DEGREE
    first, last = (min(max(int((end + 90) * CELLS_PER_DEGREE), 0), rows - 1) for end in (south_end, north_end))
    if south_end <= -90 or north_end >= 90:
        return [row * CELLS_AROUND for row in range(first, last + 1)], [
            (row + 1) * CELLS_AROUND - 1 for row in range(first, last + 1)
        ]
    # The circle is widest where a meridian touches it, which is nearer to the pole than its centre.
    ratio = math.sin(math.radians(degrees)) / math.cos(math.radians(north))
    width = math.degrees(math.asin(min(1.0, ratio)))
    begin, end = (math.floor((side + 180) * CELLS_PER_DEGREE) for side in (east - width, east + width))
    if end - begin >= CELLS_AROUND - 1:
        stretches = [(0, CELLS_AROUND - 1)]
    else:
        begin, end = begin % CELLS_AROUND, end % CELLS_AROUND
        # Beyond the date line, the row begins again.
        stretches = [(begin, end)] if begin <= end else [(0, end), (begin, CELLS_AROUND - 1)]
    pairs = [
        (row * CELLS_AROUND + low, row * CELLS_AROUND + high)
        for row in range(first, last + 1)
        for low, high in stretches
    ]
    return [low for low, _ in pairs], [high for _, high in pairs]


@dataclass(frozen=True, slots=True)
class Columns:
    """The dates and cameras of images that have either.

    Attributes:
        ids: (N,) ascending.
        taken: (N,) microseconds since the start of the year 1, local time; ``UNDATED``: none.
        cameras: (N,) numbers of cameras; 0: none.
        months: (N,) of the dates, from 1 for the first month of the year 1; ``UNDATED_MONTH``: none.
    """

    ids: NDArray[np.int64]
    taken: NDArray[np.int64]
    cameras: NDArray[np.int32]
    months: NDArray[np.int32]

    def places(self, image_ids: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return where each of these images (ascending) is; -1: nowhere."""
        if not len(self.ids):
            return np.full(len(image_ids), -1, dtype=np.intp)
        if np.array_equal(self.ids, image_ids):  # typical for all images of an archive from cameras
            return np.arange(len(image_ids), dtype=np.intp)
        found = np.minimum(np.searchsorted(self.ids, image_ids), len(self.ids) - 1)
        return np.where(self.ids[found] == image_ids, found, -1)

    def taken_of(self, image_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the dates of these images (ascending)."""
        places = self.places(image_ids)
        return np.where(places >= 0, self.taken[places], UNDATED) if len(self.ids) else np.zeros(len(places), np.int64)

    def changed(self, now: Columns) -> Columns:
        """Return the same with other contents of some images."""
        if not len(now.ids):
            return self
        is_kept = ~np.isin(self.ids, now.ids, assume_unique=True)
        ids = np.concatenate([self.ids[is_kept], now.ids])
        order = np.argsort(ids, kind="stable")  # merges ascending runs
        return Columns(
            ids[order],
            np.concatenate([self.taken[is_kept], now.taken])[order],
            np.concatenate([self.cameras[is_kept], now.cameras])[order],
            np.concatenate([self.months[is_kept], now.months])[order],
        )


def columns(session: Session) -> tuple[Moment, Columns]:
    """Return the dates and cameras of all images. Raises ``UsageError`` if there are too many."""
    row: Any = driver_connection(session).execute(_EVERY, {}, binary=True).fetchone()
    found = _columns(row[3:])
    if len(found.ids) > MOST_ROWS:
        raise UsageError(
            f"more than {MOST_ROWS:,} images have a date or a camera in their file: they cannot be counted or ordered "
            "by it; taken: and camera: still find them"
        )
    return Moment(*row[:3]), found


def columns_since(session: Session, since: Moment) -> tuple[Moment, Columns] | None:
    """Return what changed since a moment; None if that is too much, or the table was emptied since."""
    row: Any = driver_connection(session).execute(_CHANGED, {"snapshot": since.snapshot}, binary=True).fetchone()
    now, found = Moment(*row[:3]), _columns(row[3:])
    return None if now.file != since.file or len(found.ids) > MAX_CHANGED else (now, found)


def _columns(arrays: Sequence[bytes | None]) -> Columns:
    if arrays[0] is None or arrays[1] is None or arrays[2] is None:
        return Columns(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int32))
    ids, taken_at, cameras = numbers_of(arrays[0], ">i8"), numbers_of(arrays[1], ">i8"), numbers_of(arrays[2], ">i4")
    order = np.argsort(ids, kind="stable")
    is_dated = taken_at != _INFINITE
    dates = np.where(is_dated, taken_at + _DAYS_BEFORE_2000 * _DAY, UNDATED)
    since_2000 = np.where(is_dated, taken_at, 0).astype("timedelta64[us]")
    months = ((_YEAR_2000 + since_2000).astype("datetime64[M]") - _FIRST_MONTH).astype(np.int32) + 1
    months[~is_dated] = UNDATED_MONTH
    return Columns(ids[order], dates[order], cameras[order].astype(np.int32), months[order])


def camera_labels(session: Session) -> dict[int, str]:
    """Return the names of all cameras, by their numbers."""

    def look_up() -> dict[int, str]:
        found = driver_connection(session).execute("SELECT id, label FROM device WHERE kind = 'camera'")
        return dict(found.fetchall())

    return remembered(session, "cameras", look_up)

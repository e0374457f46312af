"""The rows of a job's report, in byte order of keys: sorted by the database, or read along the index of keys.

Sorting the images of a very large job writes more to the disk of the database than the images themselves take, and
gives nothing until it is done. So the outcomes of such a job are read first, into one bitmap for each outcome: listings
give neighbours consecutive numbers, and a bitmap then takes some bits for an image. The keys come from their index,
which has them in order.

That is right because an image never leaves its archive, and all images of a job are of one archive. They may leave its
prefix, when their file was moved. So with a prefix, those that did are looked up by their numbers before.
"""

from __future__ import annotations

from array import array
from collections import Counter
from heapq import merge
from itertools import combinations, compress, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from pyroaring import BitMap64
from sqlalchemy import text

from storage.batches import batched
from storage.database import with_settings
from storage.errors import RamqError
from storage.ledger import report_ignored
from storage.ledger.shards import DONE, FAILED, PENDING, SKIPPED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from psycopg import Connection
    from sqlalchemy.orm import Session

SCANS_FROM = 100_000
"""Listed keys of a job from which the index of keys is read. Fewer are sorted in a moment."""

SHARE = 20
"""A job is sorted, too, if below its prefix are more than so many times its images, as with one of a list."""

MOST_MOVED = 100_000
"""Images that were moved out of the prefix of their job, and are kept in memory. With more, all keys are read."""

# The server collects what it sends at once in its working memory (4 MB), and beyond that in a file.
_ROWS_AT_ONCE = 5_000
_SHARDS_AT_ONCE = 100
_IDS_AT_ONCE = 20_000
_NEAR = 4
"""Numbers are near if the range of some is less than so many times as long: then it is read as a whole."""


_NAMES = {PENDING: "pending", DONE: "done", FAILED: "failed", SKIPPED: "skipped"}
_LAST = "\U0010ffff"

# An image may be in a job twice, with different outcomes: so the order has to tell these apart, too.
_SORTED = """
    WITH outcome AS (
        SELECT entry.image_id,
            CASE get_byte(shard.outcomes, entry.number::int - 1)
                WHEN 1 THEN 'done' WHEN 2 THEN 'failed' WHEN 3 THEN 'skipped' ELSE 'pending' END AS name
        FROM shard, unnest(shard.image_ids) WITH ORDINALITY AS entry(image_id, number) WHERE shard.job_id = :job_id
        UNION ALL
        SELECT generate_series(lower(stretch), upper(stretch) - 1), 'skipped'
        FROM skip, unnest(skip.image_ids) AS stretch WHERE skip.job_id = :job_id
    )
    SELECT image.key, outcome.image_id, outcome.name COLLATE "C" AS name, failure.error_class,
        CAST(NULL AS text) COLLATE "C" AS reason FROM outcome
    LEFT JOIN image ON image.id = outcome.image_id
    LEFT JOIN failure ON outcome.name = 'failed' AND failure.job_id = :job_id AND failure.image_id = outcome.image_id
    UNION ALL
    SELECT own.key, NULL, 'ignored', NULL, ignored.reason
    FROM ignored, unnest(ignored.keys) AS own(key) WHERE ignored.job_id = :job_id
    ORDER BY key NULLS FIRST, image_id, name, reason
"""

_KEYS = "SELECT id, key FROM image WHERE archive_id = %(archive_id)s {within} ORDER BY key"
_WITHIN = "AND key >= %(first)s AND key < %(last)s"
_MOVED = f"SELECT key, id FROM image WHERE {{those}} AND NOT (archive_id = %(archive_id)s {_WITHIN})"  # noqa: S608
_THOSE = "id = ANY(%(ids)s)"
_BETWEEN = "id BETWEEN %(least)s AND %(most)s"
_FAILURES = "SELECT image_id, error_class FROM failure WHERE job_id = %s AND image_id = ANY(%s)"
_ALONG_THE_INDEX = {"enable_sort": "off", "enable_seqscan": "off", "enable_bitmapscan": "off"}


class Row(NamedTuple):
    """The outcome of a key; None: of an image that was erased since. ``reason``: why the key was ignored."""

    key: str | None
    image_id: int | None
    outcome: str
    error_class: str | None
    reason: str | None


class _Place(NamedTuple):
    """Where the images of a job are, or were when they were listed."""

    job_id: int
    archive_id: int
    prefix: str

    @property
    def values(self) -> dict[str, object]:
        return {"archive_id": self.archive_id, "first": self.prefix, "last": self.prefix + _LAST}


def rows(session: Session, job_id: int, scans_from: int = SCANS_FROM) -> Iterator[Row]:
    """Yield the outcome of each key of a job that exists, in byte order of keys, then those of erased ones.

    All rows are of one snapshot if the transaction has one.

    Args:
        session: busy until the iterator ends.
        job_id: the job.
        scans_from: how many listed keys make a job large: see ``SCANS_FROM``.
    """
    is_large = _is_large(session, job_id, scans_from)
    return scanned(session, job_id) if is_large else in_order(session, job_id)


def _is_large(session: Session, job_id: int, scans_from: int) -> bool:
    """Return whether a job has many images, and most of those that reading the index would meet."""
    job = session.execute(
        text(
            """SELECT archive_id, prefix, listed, archive.images FROM job JOIN archive ON archive.id = job.archive_id
               WHERE job.id = :job_id"""
        ),
        {"job_id": job_id},
    ).one()
    most = job.listed * SHARE
    if job.listed < scans_from or job.images <= most:
        return bool(job.listed >= scans_from)
    if not job.prefix:
        return False
    more = text(
        """SELECT EXISTS (SELECT FROM image WHERE archive_id = :archive_id AND key >= :first AND key < :last
               OFFSET :most)"""
    )
    return not session.scalar(more, {**_Place(job_id, job.archive_id, job.prefix).values, "most": most})


def in_order(session: Session, job_id: int) -> Iterator[Row]:
    """Yield the rows of a job, sorted by the database. See ``rows``."""
    found = session.execute(text(_SORTED), {"job_id": job_id}, execution_options={"yield_per": _ROWS_AT_ONCE})
    erased: Counter[str] = Counter()
    for key, image_id, outcome, error_class, reason in found:
        if key is None:
            erased[outcome] += 1
        else:
            yield Row(key, image_id, outcome, error_class, reason)
    yield from (_erased(outcome) for outcome in erased.elements())


def _erased(outcome: str) -> Row:
    return Row(None, None, outcome, None, None)


def scanned(session: Session, job_id: int) -> Iterator[Row]:
    """Yield the rows of a job along the index of the keys of its archive. See ``rows``."""
    found = session.execute(text("SELECT id, archive_id, prefix FROM job WHERE id = :id"), {"id": job_id}).one()
    place = _Place(*found)
    with with_settings(session, **_ALONG_THE_INDEX) as connection:
        outcomes = _Outcomes(connection, job_id)
        moved = list(islice(_moved(connection, place, outcomes.every), MOST_MOVED + 1)) if place.prefix else []
        if len(moved) > MOST_MOVED:
            place, moved = place._replace(prefix=""), []
        left = outcomes.every.copy()
        keys = merge(_keys(connection, place), sorted(moved)) if moved else _keys(connection, place)
        images = _with_outcomes(connection, job_id, keys, outcomes, left)
        ignored = (Row(key, None, "ignored", None, reason) for key, reason in report_ignored.keys(connection, job_id))
        # A key that is both comes as an image first.
        yield from merge(images, ignored, key=lambda row: (row.key, row.image_id is None))
        _require_erased(connection, job_id, left)
        for image_id in left:
            yield from (_erased(outcome) for outcome in outcomes.of(image_id))


class _Outcomes:
    """What became of the images of a job.

    Attributes:
        every: the ids of all images.
    """

    def __init__(self, connection: Connection[Any], job_id: int) -> None:
        self._by_name = {name: BitMap64() for name in _NAMES.values()}
        self._again: Counter[tuple[int, str]] = Counter()
        self._read(connection, job_id)
        sets = list(self._by_name.values())
        for ids in sets:
            ids.run_optimize()
        self.every = BitMap64.union(*sets)
        self._several = BitMap64(image_id for image_id, _ in self._again)
        for one, other in combinations(sets, 2):
            self._several |= one & other
        self._by_size = sorted(self._by_name.items(), key=lambda item: -len(item[1]))

    def of(self, image_id: int) -> Sequence[str]:
        """Return the outcomes of an image, sorted: one for each time that it is in the job; none if it is not."""
        if self._several and image_id in self._several:
            return sorted(
                name for name, ids in self._by_size if image_id in ids for _ in range(1 + self._again[image_id, name])
            )
        for outcome, ids in self._by_size:
            if image_id in ids:
                return (outcome,)
        return ()

    def _read(self, connection: Connection[Any], job_id: int) -> None:
        with connection.cursor(name="report_shards", binary=True) as cursor:
            cursor.itersize = _SHARDS_AT_ONCE
            for image_ids, outcomes in cursor.execute(
                "SELECT image_ids, outcomes FROM shard WHERE job_id = %s", (job_id,)
            ):
                for code in set(outcomes):
                    chosen = outcomes.translate(bytes(one == code for one in range(256)))
                    self._add(_NAMES.get(code, _NAMES[PENDING]), array("Q", compress(image_ids, chosen)))
        with connection.cursor(name="report_skips", binary=True) as cursor:
            cursor.itersize = _ROWS_AT_ONCE
            for first, end in cursor.execute(
                """SELECT lower(stretch), upper(stretch) FROM skip, unnest(image_ids) AS stretch WHERE job_id = %s""",
                (job_id,),
            ):
                self._add(_NAMES[SKIPPED], array("Q", range(first, end)))

    def _add(self, name: str, ids: array[int]) -> None:
        known, fresh = self._by_name[name], BitMap64(ids)
        if len(fresh) < len(ids) or not known.isdisjoint(fresh):
            for image_id, times in Counter(ids).items():
                if again := times - (image_id not in known):
                    self._again[image_id, name] += again
        known |= fresh


def _keys(connection: Connection[Any], place: _Place) -> Iterator[tuple[str, int]]:
    """Yield key and id of the images of an archive whose keys begin with the prefix, in order."""
    statement = _KEYS.format(within=_WITHIN if place.prefix else "")
    with connection.cursor(name="report_keys", binary=True) as cursor:
        cursor.itersize = _ROWS_AT_ONCE
        for image_id, key in cursor.execute(statement, place.values):
            yield key, image_id


def _moved(connection: Connection[Any], place: _Place, every: BitMap64) -> Iterator[tuple[str, int]]:
    """Yield key and id of those images of a job whose keys do not begin with its prefix any more."""
    for at in range(0, len(every), _IDS_AT_ONCE):
        ids = every[at : at + _IDS_AT_ONCE]
        values = {**place.values, "least": ids.min(), "most": ids.max()}
        # Neighbours are read together, which takes a tenth of the time. Others are looked up.
        are_near = ids.max() - ids.min() < _NEAR * len(ids)
        those = _BETWEEN if are_near else _THOSE
        found = connection.execute(_MOVED.format(those=those), values if are_near else {**values, "ids": list(ids)})
        yield from ((key, image_id) for key, image_id in found if image_id in ids)


def _with_outcomes(
    connection: Connection[Any],
    job_id: int,
    keys: Iterable[tuple[str, int]],
    outcomes: _Outcomes,
    left: BitMap64,
) -> Iterator[Row]:
    """Yield the rows of those keys whose images are in the job, and take these from ``left``."""
    for some in batched(keys, _ROWS_AT_ONCE):
        found = [(key, image_id, name) for key, image_id in some for name in outcomes.of(image_id)]
        left -= BitMap64(array("Q", [image_id for _, image_id, _ in found]))
        failed = [image_id for _, image_id, name in found if name == "failed"]
        classes = dict(connection.execute(_FAILURES, (job_id, failed)).fetchall()) if failed else {}
        for key, image_id, name in found:
            yield Row(key, image_id, name, classes.get(image_id) if name == "failed" else None, None)


def _require_erased(connection: Connection[Any], job_id: int, left: BitMap64) -> None:
    """Raise if images that were not found in the archive of their job exist: then they are not erased."""
    for ids in batched(left, _IDS_AT_ONCE):
        there = connection.execute("SELECT id FROM image WHERE id = ANY(%s) LIMIT 1", (ids,)).fetchone()
        if there is not None:
            raise RamqError(f"image {there[0]} of job {job_id} is in another archive than the job: please report this")

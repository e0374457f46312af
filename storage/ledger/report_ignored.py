"""The ignored keys of a job in byte order, for its report."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

MOST_OPEN = 50
"""Pages of ignored keys whose keys are merged in memory, a thousand each. Those of a listing follow one another. Those
of a list of keys in another order are sorted by the database."""

_PAGES_AT_ONCE = 20
_KEYS_AT_ONCE = 5_000

_OPEN = """
    SELECT coalesce(max(open), 0) FROM (
        SELECT sum(step) OVER (ORDER BY key, step DESC ROWS UNBOUNDED PRECEDING) AS open FROM (
            SELECT first_key AS key, 1 AS step FROM ignored WHERE job_id = %(job_id)s
            UNION ALL SELECT last_key, -1 FROM ignored WHERE job_id = %(job_id)s
        ) AS ends
    ) AS counted
"""
# The keys are read after the pages were sorted (OFFSET 0): so they are not sorted with them.
_PAGES = """
    SELECT reason, (SELECT keys FROM ignored WHERE ignored.id = page.id) FROM (
        SELECT id, first_key, reason FROM ignored WHERE job_id = %(job_id)s ORDER BY first_key, id OFFSET 0
    ) AS page
"""
_SORTED = """SELECT own.key, ignored.reason FROM ignored, unnest(ignored.keys) AS own(key)
    WHERE ignored.job_id = %(job_id)s ORDER BY own.key, ignored.reason COLLATE "C" """


def keys(connection: Connection[Any], job_id: int) -> Iterator[tuple[str, str]]:
    """Yield the ignored keys of a job, each with its reason, in byte order of both.

    Args:
        connection: in a transaction.
        job_id: the job.
    """
    values = {"job_id": job_id}
    ((most_open,),) = connection.execute(_OPEN, values).fetchall()
    return _merged(connection, values) if most_open <= MOST_OPEN else _sorted(connection, values)


def _merged(connection: Connection[Any], values: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Merge pages in the order of their first keys. A page is open from its first key to its last one."""
    opened: list[tuple[str, str, int, list[str]]] = []  # the last keys first, so that the next one is popped
    with connection.cursor(name="report_ignored", binary=True) as cursor:
        cursor.itersize = _PAGES_AT_ONCE
        for number, (reason, page) in enumerate(cursor.execute(_PAGES, values)):
            rest = page[::-1]
            first = rest.pop()
            while opened and opened[0][0] < first:
                yield _next(opened)
            heappush(opened, (first, reason, number, rest))
    while opened:
        yield _next(opened)


def _next(opened: list[tuple[str, str, int, list[str]]]) -> tuple[str, str]:
    key, reason, number, rest = heappop(opened)
    if rest:
        heappush(opened, (rest.pop(), reason, number, rest))
    return key, reason


def _sorted(connection: Connection[Any], values: dict[str, int]) -> Iterator[tuple[str, str]]:
    with connection.cursor(name="report_ignored", binary=True) as cursor:
        cursor.itersize = _KEYS_AT_ONCE
        yield from cursor.execute(_SORTED, values)

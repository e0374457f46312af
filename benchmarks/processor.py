"""Processor seconds of the processes of a stack, by what they do, and what the database's sessions wait for."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLE_SECONDS = 0.05
_NAMES = {"decoder": "decoders", "ingest.py": "ingest", "ramq.cli.main web": "web"}
"""What the processes below a benchmark do, by a part of their command. Any others are workers."""

_PROBE = "benchmark-probe"
"""Name of the session that looks at the others: it is not counted among them."""


def used_seconds(postmaster: int, redis: int) -> Counter[str]:
    """Return the processor seconds that each kind of process of a stack has used until now.

    The database's processes that have ended are counted as ``database, other``.
    """
    parents, found = {}, {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(folder.name)
        parents[pid] = int(stat[1])
        found[pid] = (command, (int(stat[11]) + int(stat[12])) / _TICKS, (int(stat[13]) + int(stat[14])) / _TICKS)
    mine = _descendants(parents, os.getpid())
    seconds: Counter[str] = Counter()
    for pid, (command, own, ended) in found.items():
        if pid == postmaster or parents[pid] == postmaster:
            seconds["database, sessions" if "[local]" in command else "database, other"] += own
            seconds["database, other"] += ended if pid == postmaster else 0.0
        elif pid == redis:
            seconds["redis"] += own
        elif pid == os.getpid():
            seconds["this benchmark"] += own
        elif pid in mine:
            seconds[next((name for word, name in _NAMES.items() if word in command), "workers")] += own
    return seconds


def _descendants(parents: Mapping[int, int], root: int) -> set[int]:
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {root}


class Usage:
    """What a block of work used, filled in when it ends.

    Attributes:
        seconds: how long it took.
        processor: processor seconds by kind of process.
        waits: share of the samples in which sessions with a transaction waited, by what for; ``(running)`` on a core.
        database: transactions, bytes of write-ahead log, and so on.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.processor: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.samples = 0
        self.database: Counter[str] = Counter()


@contextmanager
def measured(url: str, postmaster: int, redis: int) -> Iterator[Usage]:
    """Measure what a block uses. ``url`` is SQLAlchemy's, of a database of the server whose postmaster that is."""
    usage, over = Usage(), threading.Event()
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True, application_name=_PROBE) as connection:
        before, counts = used_seconds(postmaster, redis), _counts(connection)
        sampler = threading.Thread(target=_sample, args=(url, usage, over), daemon=True)
        began = time.monotonic()
        sampler.start()
        try:
            yield usage
        finally:
            usage.seconds = time.monotonic() - began
            usage.processor = used_seconds(postmaster, redis)
            usage.processor.subtract(before)
            over.set()
            sampler.join()
            usage.database = _counts(connection)
            usage.database.subtract(counts)


def _counts(connection: psycopg.Connection[Any]) -> Counter[str]:
    row = connection.execute(
        """SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()),
               (SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()),
               pg_current_wal_insert_lsn() - '0/0'::pg_lsn,
               (SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal')"""
    ).fetchone()
    assert row is not None
    return Counter(dict(zip(("commits", "rollbacks", "wal_bytes", "wal_fsyncs"), map(int, row), strict=True)))


def _sample(url: str, usage: Usage, over: threading.Event) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True, application_name=_PROBE) as connection:
        while not over.wait(_SAMPLE_SECONDS):
            usage.samples += 1
            for state, wait, count in connection.execute(
                """SELECT state, coalesce(wait_event_type || ':' || wait_event, '(running)'), count(*)
                   FROM pg_stat_activity WHERE backend_type = 'client backend' AND state <> 'idle'
                   AND application_name <> %s AND datname = current_database() GROUP BY 1, 2""",
                [_PROBE],
            ):
                usage.waits["between statements" if state.startswith("idle") else wait] += count

"""What keeps PostgreSQL from cleaning up after itself, as far as a person must act on it.

Autovacuum removes rows that were replaced or deleted, as soon as no transaction can see them. Without that, tables and
indexes grow without end, and transaction ids run out. A replication slot that nobody reads, and an archive that refuses
files, keep the write-ahead log until the disk is full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.texts import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

LONG_SECONDS = 3600
"""A transaction that is open longer than this is worth a look: no statement of ramq takes as long."""

_MOST_LOG_BYTES = 4 * 1024**3
_MOST_IDS = 1_200_000_000
"""PostgreSQL stops taking writes at some 2.1 billion. Autovacuum alone should never let it come near this."""

_MANY_DEAD = 1_000_000

_SETTINGS = "SELECT current_setting('autovacuum') = 'on' AND current_setting('track_counts') = 'on'"
_OPEN = """
    SELECT pid, coalesce(nullif(application_name, ''), 'no name') AS name, usename,
        extract(epoch FROM clock_timestamp() - xact_start)::bigint AS seconds
    FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid()
        AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
        AND xact_start < clock_timestamp() - make_interval(secs => :seconds)
    ORDER BY xact_start LIMIT 1
"""
_PREPARED = """
    SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::bigint AS seconds FROM pg_prepared_xacts
    WHERE prepared < clock_timestamp() - make_interval(secs => :seconds) ORDER BY prepared LIMIT 1
"""
_SLOTS = """
    SELECT slot_name, active, wal_status = 'lost' AS is_lost,
        coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint AS bytes
    FROM pg_replication_slots
    WHERE wal_status = 'lost' OR pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) > :bytes ORDER BY bytes DESC
"""
_ARCHIVER = """
    SELECT last_failed_wal, extract(epoch FROM clock_timestamp() - last_archived_time)::bigint AS seconds
    FROM pg_stat_archiver
    WHERE current_setting('archive_mode') <> 'off' AND last_failed_time > coalesce(last_archived_time, '-infinity')
"""
_AGES = """
    SELECT datname, greatest(age(datfrozenxid), mxid_age(datminmxid)) AS used FROM pg_database
    ORDER BY used DESC LIMIT 1
"""
_DEAD = """
    SELECT relname, n_live_tup AS live, n_dead_tup AS dead FROM pg_stat_user_tables
    WHERE n_dead_tup > :dead AND n_dead_tup > n_live_tup ORDER BY n_dead_tup DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that a person must act on.

    Attributes:
        is_fault: it gets worse until the database stops; otherwise it only costs space and time.
        next: the command to run next.
    """

    detail: str
    next: str
    is_fault: bool


def troubles(session: Session) -> list[Trouble]:
    """Return what keeps the database from cleaning up. A standby has none: its primary cleans up."""
    if session.scalar(text("SELECT pg_is_in_recovery()")):
        return []
    return [*_off(session), *_held_by(session), *_log(session), *_worn(session)]


def _off(session: Session) -> Iterator[Trouble]:
    if not session.scalar(text(_SETTINGS)):
        detail = "autovacuum is off: tables grow with every change, and the database stops in the end"
        yield Trouble(detail, _psql("ALTER SYSTEM SET autovacuum = on"), is_fault=True)


def _held_by(session: Session) -> Iterator[Trouble]:
    for row in session.execute(text(_OPEN), {"seconds": LONG_SECONDS}):
        detail = (
            f"a transaction of {row.usename} ({row.name}, process {row.pid}) has been open for {_hours(row.seconds)}: "
            "until it ends, no deleted row is removed, and new results stay out of the index"
        )
        if row.name == "pg_dump":
            yield Trouble(f"{detail}. For a database of this size, use pg_basebackup", "ramq doctor", is_fault=False)
        else:
            yield Trouble(detail, _psql(f"SELECT pg_terminate_backend({row.pid})"), is_fault=True)
    for row in session.execute(text(_PREPARED), {"seconds": LONG_SECONDS}):
        detail = (
            f"the prepared transaction {row.gid} has been open for {_hours(row.seconds)}: no deleted row is removed"
        )
        yield Trouble(detail, _psql(f"ROLLBACK PREPARED '{row.gid}'"), is_fault=True)


def _log(session: Session) -> Iterator[Trouble]:
    for row in session.execute(text(_SLOTS), {"bytes": _MOST_LOG_BYTES}):
        drop = _psql(f"SELECT pg_drop_replication_slot('{row.slot_name}')")
        if row.is_lost:
            detail = (
                f"the log for the replication slot {row.slot_name} is gone: make its standby anew, without this slot"
            )
        else:
            who = "its reader is behind" if row.active else "nobody reads it"
            detail = f"the replication slot {row.slot_name} keeps {row.bytes / 1e9:,.1f} GB of log; {who}"
        yield Trouble(detail, drop, is_fault=not row.active)
    for row in session.execute(text(_ARCHIVER)):
        since = "never worked" if row.seconds is None else f"last worked {_hours(row.seconds)} ago"
        detail = f"the log is not archived ({row.last_failed_wal} failed; it {since}): it stays until the disk is full"
        yield Trouble(detail, _psql("SHOW archive_command"), is_fault=True)


def _worn(session: Session) -> Iterator[Trouble]:
    row = session.execute(text(_AGES)).one()
    if row.used > _MOST_IDS:
        detail = f"database {row.datname} has used {row.used:,} of 2.1 billion transaction ids since it was cleaned"
        yield Trouble(detail, f"vacuumdb --freeze --dbname={row.datname}", is_fault=True)
    for row in session.execute(text(_DEAD), {"dead": _MANY_DEAD}):
        detail = (
            f"table {row.relname} has {row.dead:,} dead rows and {plural(row.live, 'live one')}: vacuum lags behind"
        )
        yield Trouble(detail, _psql(f"VACUUM (VERBOSE, ANALYZE) {row.relname}"), is_fault=False)


def _psql(statement: str) -> str:
    return f'ramq db run psql -c "{statement}"'


def _hours(seconds: int) -> str:
    return f"{seconds / 3600:,.1f} hours"

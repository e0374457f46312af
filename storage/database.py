"""The engine, and the only place that commits."""

from __future__ import annotations

import select
import time
from contextlib import contextmanager, nullcontext
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from psycopg import DataError
from psycopg import Error as PsycopgError
from psycopg import OperationalError as PsycopgOperationalError
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import DeadlockDetected, ProgramLimitExceeded, ReadOnlySqlTransaction
from psycopg.pq import Conninfo
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from storage.errors import DatabaseAwayError, ServiceUnavailableError
from storage.texts import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    import psycopg

IDLE_SECONDS = 60
"""How long a transaction may be idle before PostgreSQL ends it: an idle one freezes the index's watermark."""

LOCKED_IDLE_SECONDS = 5
"""How long a transaction may be idle while it holds a lock that others need."""

QUIET_SECONDS = 5
"""How long a connection may be unused before the server is asked whether it still works."""

_IS_POOLED = "is_pooled"
_USED_AT = "used_at"
_NEWEST = "newest connection"
_REFUSAL = "refusal"
_numbers = count(1)

# A generic plan can be far worse than one for the actual values: a range may select a few rows or all, and a generic
# plan locks the partitions of every generation that a parameter could name. Therefore psycopg is told what to prepare
# (``prepare=True``): statements that are sent with every search or batch, on partitions that they name.
_ONLY_WHEN_ASKED = 2**31


def make_engine(url: str, *, pool_size: int = 10, connect_seconds: int = 10) -> Engine:
    """Return an engine for ``url`` (``postgresql+psycopg://…``).

    Connections are checked before use: after a restart of the database the engine reconnects without an error.

    Args:
        url: of the database.
        pool_size: the maximum number of connections. They are kept open, because opening one takes as long as a search.
        connect_seconds: how long opening one may take.
    """
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_use_lifo=True,  # few connections then do the work between bursts, and the others rest
        pool_timeout=30,
        connect_args={
            "connect_timeout": connect_seconds,
            "application_name": "ramq",
            "prepare_threshold": _ONLY_WHEN_ASKED,
            # Notice a dead peer within a minute rather than hours.
            "keepalives_idle": 20,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            # No keepalives are sent while an answer is awaited. Without this, a dead peer is noticed after 15 minutes.
            "tcp_user_timeout": 50_000,
        },
    )

    @event.listens_for(engine, "connect")
    def _on_connect(connection: psycopg.Connection[Any], record: Any) -> None:
        record.info[_USED_AT] = time.monotonic()
        vars(engine.pool)[_NEWEST] = next(_numbers)
        found = connection.execute(
            """SELECT pg_backend_pid(), set_config('timezone', 'UTC', FALSE),
                   set_config('idle_in_transaction_session_timeout', %s, FALSE)""",
            [f"{IDLE_SECONDS}s"],
        ).fetchone()
        connection.commit()
        # A connection pool in between (pgbouncer) reports a process id of its own. It may run the next transaction on
        # another server process, which has neither our settings nor our prepared statements.
        assert found is not None
        if found[0] != connection.info.backend_pid:
            connection.prepare_threshold = None  # even with prepare=True
            record.info[_IS_POOLED] = True

    @event.listens_for(engine, "checkout")
    def _on_checkout(connection: psycopg.Connection[Any], record: Any, _proxy: Any) -> None:
        if not _is_alive(engine, connection, time.monotonic() - record.info[_USED_AT]):
            raise InvalidatePoolError

    @event.listens_for(engine, "checkin")
    def _on_checkin(_connection: Any, record: Any) -> None:
        record.info[_USED_AT] = time.monotonic()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        if is_pooled(connection) and not getattr(connection.connection.driver_connection, "autocommit", False):
            connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")

    @event.listens_for(engine, "do_executemany")
    def _one_by_one(cursor: Any, statement: str, rows: Any, _context: Any) -> bool:
        # psycopg would send the rows as a pipeline. After a pipeline PostgreSQL 18 does not enforce the idle timeout:
        # a process that is stopped then would keep its locks, and the index's watermark, forever.
        for row in rows:
            cursor.execute(statement, row)
        return True

    return engine


def newest_connection(engine: Engine) -> int:
    """Return a number that changes with every connection that the engine opens."""
    return cast("int", vars(engine.pool).get(_NEWEST, 0))


def _is_alive(engine: Engine, connection: psycopg.Connection[Any], idle_seconds: float) -> bool:
    """Return whether a connection still works.

    The end of a connection, and the reason that the server gives for it, wait to be read. If nothing waits on one that
    was used a moment ago, the server need not be asked.
    """
    try:
        if idle_seconds < QUIET_SECONDS:
            waiting = select.poll()
            waiting.register(connection.fileno(), select.POLLIN)
            if not waiting.poll(0):
                return True
        return bool(engine.dialect.do_ping(connection))  # type: ignore[arg-type]  # a connection of the driver
    except PsycopgError:
        return False


def is_pooled(connection: Connection) -> bool:
    """Return whether the next transaction may run on another server process. Session state does not last then."""
    return _IS_POOLED in connection.info


@contextmanager
def unit_of_work(engine: Engine) -> Iterator[Session]:
    """Run one transaction. It commits when the block ends and rolls back when it raises.

    Raises:
        ServiceUnavailableError: the database cannot be reached, the connection broke, or the database undid the
            transaction because of a deadlock.
    """
    with errors_named(engine), Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


def refuse_while(engine: Engine, reason: Callable[[], str | None] | None) -> None:
    """Refuse all work with an engine while ``reason`` says why (``errors_named``). None: refuse nothing any more."""
    vars(engine)[_REFUSAL] = reason


def limit_idleness(session: Session) -> None:
    """End this transaction soon if its process stops in the middle of it, because it holds a lock that others need."""
    session.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{LOCKED_IDLE_SECONDS}s'"))


@contextmanager
def errors_named(engine: Engine) -> Iterator[None]:
    """Turn a lost connection, a deadlock or a read-only server into ``ServiceUnavailableError``. Let others pass.

    psycopg counts ``ProgramLimitExceeded`` as an operational error, although it is about a value that is too long for
    an index. It becomes a ``DataError``, as other values that cannot be stored.

    Nothing is tried while it is known that the database hangs: see ``liveness``.
    """
    _require_no_refusal(engine)
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        if isinstance(error.orig, ProgramLimitExceeded):
            raise DataError(str(error.orig)) from error
        raise _unreachable(engine, error) from error
    except PoolTimeoutError as error:
        raise ServiceUnavailableError(_exhausted(engine)) from error
    except DBAPIError as error:
        if isinstance(error.orig, ReadOnlySqlTransaction):
            raise _read_only(engine) from error
        if error.connection_invalidated:
            raise _unreachable(engine, error) from error
        raise
    except ReadOnlySqlTransaction as error:
        raise _read_only(engine) from error
    except ProgramLimitExceeded as error:
        raise DataError(str(error)) from error
    except PsycopgOperationalError as error:
        raise _unreachable(engine, error) from error


def driver_connection(session: Session) -> psycopg.Connection[Any]:
    """Return the psycopg connection of the session's transaction, for COPY and binary values."""
    connection: psycopg.Connection[Any] | None = session.connection().connection.driver_connection
    if connection is None:
        raise ServiceUnavailableError("the database connection was lost: try again")
    return connection


@contextmanager
def with_settings(session: Session, **settings: str) -> Iterator[psycopg.Connection[Any]]:
    """Give the psycopg connection with settings of PostgreSQL that count for the statements of the block.

    In a transaction they count until its end. If each statement is a transaction of its own (``remembered.read_only``),
    the block becomes one, or they would count for nothing.
    """
    connection = driver_connection(session)
    with connection.transaction() if settings and connection.autocommit else nullcontext():
        if settings:
            names, values = list(settings), list(settings.values())
            chosen = "SELECT set_config(name, value, true) FROM unnest(%s::text[], %s::text[]) AS chosen (name, value)"
            connection.execute(chosen, (names, values))
        yield connection


def _exhausted(engine: Engine) -> str:
    return f"all connections of this process to the database are in use ({engine.pool.status()}): try again in a moment"


def _read_only(engine: Engine) -> ServiceUnavailableError:
    """Close the pool's connections: after a failover they may lead to a server that stays read-only, and stay open."""
    engine.dispose()
    return ServiceUnavailableError(
        f"the database {server_of(engine)} takes no writes: it is a standby, or read-only. With several servers in "
        "RAMQ_DATABASE_URL, add ?target_session_attrs=read-write"
    )


def server_of(engine: Engine) -> str:
    """Return the address of a database for messages, without secrets."""
    return without_secrets(engine.url.render_as_string(hide_password=True))


def connection_variables(database_url: str) -> dict[str, str]:
    """Return the variables by which PostgreSQL's own programs find a database. No password is in their arguments then.

    Args:
        database_url: the database, as SQLAlchemy or libpq write it.
    """
    given = conninfo_to_dict(database_url.replace("postgresql+psycopg://", "postgresql://", 1))
    variables = {one.keyword.decode(): one.envvar.decode() for one in Conninfo.get_defaults() if one.envvar}
    return {variables[name]: str(value) for name, value in given.items() if name in variables and value is not None}


def _refusal(engine: Engine) -> str | None:
    reason: Callable[[], str | None] | None = vars(engine).get(_REFUSAL)
    return None if reason is None else reason()


def _require_no_refusal(engine: Engine) -> None:
    if refused := _refusal(engine):
        raise DatabaseAwayError(engine, f"{refused}: try again in a moment")


def _unreachable(engine: Engine, error: Exception) -> ServiceUnavailableError:
    if isinstance(getattr(error, "orig", None) or error, DeadlockDetected):
        return ServiceUnavailableError(
            "this change and another one waited for each other, so the database undid this one: try again"
        )
    # A connection that was ended because the database hangs says no more than that it was ended.
    if refused := _refusal(engine):
        return DatabaseAwayError(engine, f"{refused}: try again in a moment")
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()
    said = reason[0] if reason else type(error).__name__
    return DatabaseAwayError(engine, f"the database {server_of(engine)} did not answer: {said}")


def wait_for_lock(session: Session, lock: int) -> None:
    """Take an advisory lock until the transaction ends. Wait for it."""
    session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})


def is_first(session: Session, lock: int) -> bool:
    """Take an advisory lock until the transaction ends. Return False if another transaction holds it."""
    return bool(session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": lock}))


def server_version(session: Session) -> str:
    """Return the version of the server."""
    return str(session.scalar(text("SHOW server_version")))


def server_time(session: Session) -> datetime:
    """Return the time of the server's clock."""
    now: datetime = session.scalars(text("SELECT clock_timestamp()")).one()
    return now

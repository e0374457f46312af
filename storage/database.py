"""The engine, and the only place that commits."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from psycopg import OperationalError as PsycopgOperationalError
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from storage.errors import ServiceUnavailableError
from storage.texts import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import psycopg

IDLE_SECONDS = 60
"""How long a transaction may do nothing before PostgreSQL ends it: an idle one freezes the index's watermark."""

LOCKED_IDLE_SECONDS = 5
"""How long a transaction that holds a lock which others need may do nothing."""

_IS_POOLED = "is_pooled"

# A plan that was made for any values can be far worse than one for these: a range may be a sliver or all, and it locks
# the partitions of every generation that a parameter could mean. So psycopg is told what to prepare (``prepare=True``):
# statements that are sent with every search or batch, over partitions that they name.
_ONLY_WHEN_ASKED = 2**31


def make_engine(url: str, *, pool_size: int = 5) -> Engine:
    """Return an engine for ``url`` (``postgresql+psycopg://…``).

    Connections are checked before use, so that a restarted database costs a reconnect and not an error.
    """
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        pool_timeout=30,
        connect_args={
            "connect_timeout": 10,
            "application_name": "ramq",
            "prepare_threshold": _ONLY_WHEN_ASKED,
            # A dead peer is noticed within a minute rather than hours.
            "keepalives_idle": 20,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            # Keepalives are not sent while an answer is awaited; without this, that takes a quarter of an hour.
            "tcp_user_timeout": 50_000,
        },
    )

    @event.listens_for(engine, "connect")
    def _on_connect(connection: psycopg.Connection[Any], record: Any) -> None:
        found = connection.execute(
            """SELECT pg_backend_pid(), set_config('timezone', 'UTC', FALSE),
                   set_config('idle_in_transaction_session_timeout', %s, FALSE)""",
            [f"{IDLE_SECONDS}s"],
        ).fetchone()
        connection.commit()
        # A pool of connections in between (pgbouncer) names its clients a process of its own making, and may give the
        # next transaction to another server process, which knows neither settings nor prepared statements.
        assert found is not None
        if found[0] != connection.info.backend_pid:
            connection.prepare_threshold = None  # whoever asks
            record.info[_IS_POOLED] = True

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        if is_pooled(connection):
            connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")

    @event.listens_for(engine, "do_executemany")
    def _one_by_one(cursor: Any, statement: str, rows: Any, _context: Any) -> bool:
        # psycopg would send them as a pipeline, and after one PostgreSQL 18 does not count how long the transaction is
        # idle: a process that is stopped then would keep its locks, and the index's watermark, for ever.
        for row in rows:
            cursor.execute(statement, row)
        return True

    return engine


def is_pooled(connection: Connection) -> bool:
    """Whether the next transaction may be another server process's: nothing that belongs to a session lasts."""
    return _IS_POOLED in connection.info


@contextmanager
def unit_of_work(engine: Engine) -> Iterator[Session]:
    """One transaction: commits when the block ends, rolls back when it raises.

    Raises:
        ServiceUnavailableError: the database cannot be reached, or went away in the middle.
    """
    with errors_named(engine), Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


def limit_idleness(session: Session) -> None:
    """Let this transaction, which holds a lock that others need, end soon if its process stops in the middle of it."""
    session.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{LOCKED_IDLE_SECONDS}s'"))


@contextmanager
def errors_named(engine: Engine) -> Iterator[None]:
    """Turn a lost or refused connection into ``ServiceUnavailableError``; let every other error through."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise ServiceUnavailableError(_unreachable(engine, error)) from error
    except PoolTimeoutError as error:
        raise ServiceUnavailableError(_exhausted(engine)) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise ServiceUnavailableError(_unreachable(engine, error)) from error
        raise
    except PsycopgOperationalError as error:
        raise ServiceUnavailableError(_unreachable(engine, error)) from error


def driver_connection(session: Session) -> psycopg.Connection[Any]:
    """Return the psycopg connection of the session's transaction: for COPY, and for values in binary."""
    connection: psycopg.Connection[Any] | None = session.connection().connection.driver_connection
    if connection is None:
        raise ServiceUnavailableError("the database connection was lost")
    return connection


def _exhausted(engine: Engine) -> str:
    return f"all connections of this process to the database are in use ({engine.pool.status()}): try again in a moment"


def _unreachable(engine: Engine, error: Exception) -> str:
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()
    url = without_secrets(engine.url.render_as_string(hide_password=True))
    return f"the database {url} did not answer: {reason[0] if reason else type(error).__name__}"


def is_first(session: Session, lock: int) -> bool:
    """Take an advisory lock until the transaction ends; False where another transaction holds it."""
    return bool(session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": lock}))


def server_version(session: Session) -> str:
    """Return the version of the server."""
    return str(session.scalar(text("SHOW server_version")))


def server_time(session: Session) -> datetime:
    """Return what the server's clock says."""
    now: datetime = session.scalars(text("SELECT clock_timestamp()")).one()
    return now

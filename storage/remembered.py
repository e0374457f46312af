"""Small facts that every search looks up, such as the generation in use. They are kept until something is committed.

A session of ``read_only`` asks PostgreSQL once for its snapshot, which says which transactions have ended. As long as
the snapshot is the same, nothing was committed, so what was looked up at it before is still so. An answer is therefore
never older than the first statement of its session.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from sqlalchemy.orm import Session

from storage.database import driver_connection, errors_named, is_pooled, newest_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from sqlalchemy import Engine

Fact = TypeVar("Fact")

_MEMORY, _MOMENT, _READER = "memory", "moment", "ramq reader"

_SNAPSHOT = "SELECT pg_current_snapshot()::text, NOT pg_is_in_recovery()"
"""A standby does not list running transactions, so the same text may mean other rows there. Nothing is kept then."""


class Moment(NamedTuple):
    """What was looked up at a snapshot.

    Attributes:
        snapshot: PostgreSQL's text form ``xmin:xmax:xip,…``.
        facts: by their keys.
    """

    snapshot: str
    facts: dict[Hashable, Any]


class _Memory:
    """The facts of the newest snapshot that a process has seen of one database. Thread-safe."""

    def __init__(self) -> None:
        self._newest = (0, Moment("", {}))

    def at(self, snapshot: str, connection: int) -> Moment:
        """Return what was looked up at a snapshot.

        Everything is forgotten with each new connection: after a crash, the database may give the number of a lost
        transaction to another one.

        Args:
            snapshot: PostgreSQL's text form.
            connection: ``newest_connection``.
        """
        known, moment = self._newest
        if (known, moment.snapshot) != (connection, snapshot):
            moment = Moment(snapshot, {})
            self._newest = (connection, moment)
        return moment


@contextmanager
def read_only(engine: Engine) -> Iterator[Session]:
    """Read, with statements that each are a transaction of their own, and with ``remembered`` facts.

    It takes two round trips to the server less than a transaction. Each statement sees what was committed before it,
    as in any transaction here. Nothing may be written.

    Raises:
        ServiceUnavailableError: as ``database.unit_of_work``.
    """
    reader = _reader_of(engine)
    with errors_named(engine), Session(reader.engine, expire_on_commit=False, autoflush=False) as session:
        session.info[_MEMORY] = reader.memory
        yield session


def moment_of(session: Session) -> Moment | None:
    """Return the snapshot of a session of ``read_only`` and what was looked up at it; None: nothing is remembered."""
    if _MOMENT not in session.info:
        memory = session.info.get(_MEMORY)
        moment = None
        # A connection pool in between would hide that the server crashed: see ``_Memory.at``.
        if memory is not None and not is_pooled(session.connection()):
            row = driver_connection(session).execute(_SNAPSHOT, prepare=True).fetchone()
            assert row is not None
            snapshot, is_exact = row
            moment = memory.at(snapshot, newest_connection(session.connection().engine)) if is_exact else None
        session.info[_MOMENT] = moment
    return cast("Moment | None", session.info[_MOMENT])


def remembered(session: Session, key: Hashable, look_up: Callable[[], Fact]) -> Fact:
    """Return what ``look_up`` returns, which others may have looked up at the same snapshot. It must not be changed.

    Args:
        session: a transaction, in which nothing is remembered, or a session of ``read_only``.
        key: says what is looked up. There must be few different ones.
        look_up: looks it up.
    """
    moment = moment_of(session)
    if moment is None:
        return look_up()
    if key not in moment.facts:
        moment.facts[key] = look_up()
    return cast("Fact", moment.facts[key])


class _Reader(NamedTuple):
    """What the sessions of ``read_only`` share: the engine with each statement alone, and the memory."""

    engine: Engine
    memory: _Memory


def _reader_of(engine: Engine) -> _Reader:
    # It is kept with the engine, and goes with it. To make one takes as long as a statement.
    reader = vars(engine).get(_READER)
    if reader is None:
        made = _Reader(engine.execution_options(isolation_level="AUTOCOMMIT"), _Memory())
        reader = vars(engine).setdefault(_READER, made)
    return cast("_Reader", reader)

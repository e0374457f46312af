"""Whether a database answers. It is asked every second, so that nobody waits for one that hangs.

A machine that is paused, or behind a network that drops packets, ends no connection. Whoever waits for its answer waits
for minutes, and no timeout of the server helps, since it is the server that does not run. So a thread asks a small
question, on a connection of its own, and waits for the answer as long as it is told to. If none comes, it ends the
connections of the pool from this side, and those who wait on them get an error at once. Until the database answers
again, ``errors_named`` refuses new work. A long statement on a database that answers is left alone.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import ConnStatus, ExecStatus
from sqlalchemy import event

from storage.database import refuse_while, server_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
"""How often a database is asked."""

RECONNECT_SECONDS = 10.0
"""How often a new connection is opened to ask, while the one that is open leads to a server that is not wanted."""

_STEP_SECONDS = 0.1

_QUESTION = b"""
    SELECT pg_is_in_recovery(),
        (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END) - '0/0'::pg_lsn,
        CASE WHEN pg_is_in_recovery() THEN extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a database said of itself.

    Attributes:
        is_standby: whether it follows another one.
        position: up to which byte of the write-ahead log it wrote, or replayed.
        replayed_seconds: how long ago the last transaction that it replayed was committed; None: unknown.
        asked_at: when, on the monotonic clock.
    """

    is_standby: bool
    position: int
    replayed_seconds: float | None
    asked_at: float


class _SilentError(Exception):
    """No answer came in time."""


class Liveness:
    """Asks one database. Thread-safe.

    Args:
        engine: whose pool leads to it.
        limit_seconds: how long an answer may take.
        on_answer: called after each question, in the thread that asks.
        wants_standby: whether the address should lead to a standby. Where it names several servers and the connection
            leads to another kind, one is opened anew from time to time.
    """

    def __init__(
        self,
        engine: Engine,
        limit_seconds: float,
        on_answer: Callable[[], None] = lambda: None,
        *,
        wants_standby: bool = False,
    ) -> None:
        self._engine, self._limit_seconds, self._on_answer = engine, limit_seconds, on_answer
        self._wants_standby = wants_standby
        self._lock = threading.Lock()
        self._sockets: dict[int, socket.socket] = {}
        self._key = object()
        self._connection: psycopg.Connection[Any] | None = None
        self._opened_at = 0.0
        self._ended, self._is_due = threading.Event(), threading.Event()
        self._answered = threading.Event()
        self.answer: Answer | None = None
        self.error: str | None = None
        self.silent_since: float | None = None
        self.is_running = False

    @property
    def silence(self) -> str | None:
        """What to say instead of waiting for a database that hangs; None: it answers, or says why it does not."""
        since = self.silent_since
        if since is None or not self.is_running:
            return None
        return f"the database {server_of(self._engine)} has not answered for {time.monotonic() - since:,.0f} s"

    @property
    def trouble(self) -> str | None:
        """Why the database cannot be used now, in one line; None: it answers, or nobody asked yet."""
        return self.silence or (self.error if self.is_running else None)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask during the block."""
        self._key = object()
        event.listen(self._engine, "checkout", self._on_checkout, insert=True)  # before the connection is tried
        event.listen(self._engine, "close", self._on_close)
        refuse_while(self._engine, lambda: self.silence)
        self._ended.clear()
        self.is_running = True
        thread = threading.Thread(target=self._run, name="database liveness", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            self._is_due.set()
            thread.join()
            self.is_running = False
            self.silent_since = self.error = None
            self._answered.clear()
            refuse_while(self._engine, None)
            event.remove(self._engine, "checkout", self._on_checkout)
            event.remove(self._engine, "close", self._on_close)
            with self._lock:
                while self._sockets:
                    self._sockets.popitem()[1].close()

    def wait_for_first(self, seconds: float) -> None:
        """Wait until the database was asked for the first time, if it is asked at all; so long at most."""
        if self.is_running:
            self._answered.wait(seconds)

    def ask_soon(self) -> None:
        """Ask at once, because somebody saw an error."""
        self._is_due.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._is_due.clear()
            try:
                self.ask()
            except Exception:  # a thread that ended would leave what was found last as the state for ever
                log.exception("the question whether a database answers could not be asked")
                self.error = self.silent_since = None
            self._answered.set()
            self._on_answer()
            self._is_due.wait(EVERY_SECONDS)
        self._close()

    def ask(self) -> None:
        """Ask once, and note what came of it."""
        began = time.monotonic()
        try:
            answer = self._ask(began)
        except _SilentError:
            self._note_silence(began)
        except psycopg.Error as error:
            if time.monotonic() - began >= self._limit_seconds:  # of several servers, none was reached in time
                self._note_silence(began)
                return
            self._close()
            reason = str(error).strip().splitlines()
            self.error = f"the database {server_of(self._engine)} did not answer: {reason[0] if reason else error!r}"
            self.silent_since = None
        else:
            self.answer, self.error, self.silent_since = answer, None, None

    def _note_silence(self, since: float) -> None:
        self.error = None
        if self.silent_since is None:
            self.silent_since = since
        self._close()
        self._cut()

    def _ask(self, began: float) -> Answer:
        connection = self._connected(began)
        connection.pgconn.send_query(_QUESTION)
        deadline = time.monotonic() + self._limit_seconds
        waiting = select.poll()
        waiting.register(connection.pgconn.socket, select.POLLIN)
        while connection.pgconn.is_busy():
            left = deadline - time.monotonic()
            # The poll comes before the deadline is looked at: this thread may have waited long for its turn, and the
            # answer be here.
            if not waiting.poll(1_000 * max(0.0, min(left, _STEP_SECONDS))):
                if left <= 0 or self._ended.is_set():
                    raise _SilentError
                continue
            connection.pgconn.consume_input()
        result = connection.pgconn.get_result()
        while connection.pgconn.get_result() is not None:
            pass
        if result is None or result.status != ExecStatus.TUPLES_OK:
            raise psycopg.OperationalError("" if result is None else result.get_error_message())
        standby, position, replayed = (result.get_value(0, column) for column in range(3))
        return Answer(
            standby == b"t", int(position or 0), None if replayed is None else float(replayed), asked_at=began
        )

    def _connected(self, now: float) -> psycopg.Connection[Any]:
        is_other = self.answer is not None and self.answer.is_standby != self._wants_standby
        if self._connection is not None and is_other and now - self._opened_at > RECONNECT_SECONDS:
            self._close()
        if self._connection is None:
            args, named = self._engine.dialect.create_connect_args(self._engine.url)
            named["connect_timeout"] = max(2, round(self._limit_seconds))
            named["application_name"] = "ramq liveness"
            try:
                self._connection = psycopg.connect(*args, **named, autocommit=True)
            except psycopg.errors.ConnectionTimeout as error:
                raise _SilentError from error
            self._opened_at = time.monotonic()
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # libpq says goodbye to the server, and would wait if the server took nothing more.
            with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as ours:
                if connection.pgconn.status != ConnStatus.OK or self.silent_since is not None:
                    ours.shutdown(socket.SHUT_RDWR)
            connection.close()

    # The connections of the pool -------------------------------------------------------------------------------------

    def _on_checkout(self, connection: psycopg.Connection[Any], record: Any, _proxy: Any) -> None:
        if self._key not in record.info:
            # A descriptor of our own: the connection may be closed, and its number given to another file, at any time.
            ours = socket.socket(fileno=os.dup(connection.fileno()))
            record.info[self._key] = ours
            with self._lock:
                self._sockets[id(ours)] = ours

    def _on_close(self, _connection: Any, record: Any) -> None:
        ours = record.info.pop(self._key, None)
        if ours is not None:
            with self._lock:
                self._sockets.pop(id(ours), None)
                ours.close()

    def _cut(self) -> None:
        """End all connections of the pool from this side. Who waits for an answer on one gets an error."""
        with self._lock:
            for each in self._sockets.values():
                with suppress(OSError):  # it has ended already
                    each.shutdown(socket.SHUT_RDWR)

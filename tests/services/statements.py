"""What is asked of a database, counted so that nothing beside a test changes the number."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from unittest.mock import patch

import psycopg
import pytest
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

Answer = TypeVar("Answer")

SNAPSHOT = text("SELECT pg_current_snapshot()::text")


def undisturbed(engine: Engine, ask: Callable[[], Answer]) -> Answer:
    """Return what ``ask`` returns while nothing else is committed on the server, such as by its own chores."""
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as watching:
        for _ in range(50):
            before = watching.scalar(SNAPSHOT)
            answer = ask()
            if watching.scalar(SNAPSHOT) == before:
                return answer
    pytest.fail("others commit without a pause")


@contextmanager
def statements_on(engine: Engine) -> Iterator[list[str]]:
    """Give the statements that this process sends to a database during the block, whatever engine sends them.

    Threads that earlier tests left behind talk to other databases. Pings are left out: they ask nothing.
    """
    sent: list[str] = []
    execute = psycopg.Cursor.execute

    def noting(cursor: psycopg.Cursor[Any], statement: Any, *args: Any, **more: Any) -> Any:
        if cursor.connection.info.dbname == engine.url.database and len(str(statement)) > len(";"):
            sent.append(str(statement))
        return execute(cursor, statement, *args, **more)

    with patch.object(psycopg.Cursor, "execute", noting):
        yield sent

"""The schema's revision, and the one that this version needs. Cheap enough for every command.

Importing Alembic takes most of a second. It is only needed if the two differ.
"""

from __future__ import annotations

import time
from importlib.resources import files
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.database import errors_named
from storage.errors import FatalError, ServiceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine


_ASK_AGAIN_SECONDS = 0.5


def wait_for_database(engine: Engine, seconds: float, on_wait: Callable[[ServiceUnavailableError], None]) -> None:
    """Return as soon as the database answers.

    Args:
        engine: of the database.
        seconds: to wait at most. 0: ask once.
        on_wait: called once, with the reason, before the first wait.

    Raises:
        ServiceUnavailableError: it did not answer in time; the reason is that of the last attempt.
    """
    deadline = time.monotonic() + seconds
    is_first = True
    while True:
        try:
            with errors_named(engine), engine.connect():
                return
        except ServiceUnavailableError as error:
            if time.monotonic() >= deadline:
                raise
            if is_first:
                on_wait(error)
            is_first = False
        time.sleep(min(_ASK_AGAIN_SECONDS, max(0.0, deadline - time.monotonic())))


def head() -> str:
    """Return the newest revision that this version knows. Scripts are named ``NNNN_what.py``, in ascending order."""
    names = (entry.name for entry in files("migrations").joinpath("versions").iterdir() if entry.name.endswith(".py"))
    return max(name.partition("_")[0] for name in names)


def current(engine: Engine) -> str | None:
    """Return the database's revision; None if ramq never set one up."""
    with errors_named(engine), engine.connect() as connection:
        if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
            return None
        revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return revision


def require_current(engine: Engine) -> None:
    """Raise ``FatalError`` unless the database is at this version's revision."""
    found = current(engine)
    if found != head():
        raise FatalError(
            f"the database is at revision {found or 'none'}, this version needs {head()}: "
            "run `ramq db upgrade` (or update ramq, if the database is newer)"
        )


def bring_up_to_date(engine: Engine) -> None:
    """Migrate the database if it is not at this version's revision. Raises ``FatalError`` if it is newer."""
    if current(engine) != head():
        from storage import migrate  # noqa: PLC0415

        migrate.upgrade(engine)

"""The schema's revision, and the one that this version needs. Cheap enough for every command.

Importing Alembic takes most of a second. It is only needed if the two differ.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.database import errors_named
from storage.errors import FatalError

if TYPE_CHECKING:
    from sqlalchemy import Engine


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

"""Migrate a database to the schema of this version of ramq."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.base import ischema_names

from storage.database import errors_named, is_pooled
from storage.errors import FatalError
from storage.tables import XID8, Base

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

_MIGRATION_LOCK = 7_263_771
"""Key of the advisory lock that admits one migrating process at a time. Nothing else uses this constant."""


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Migrate up to ``revision``. Safe to call from several processes at once.

    Raises:
        FatalError: the database is at a revision that this version does not know (it is newer), or the connection goes
            through a connection pool.
    """
    _run(engine, lambda config: command.upgrade(config, revision))


def downgrade(engine: Engine, revision: str) -> None:
    """Migrate down to ``revision`` (``base``: drop every table)."""
    _run(engine, lambda config: command.downgrade(config, revision))


def differences(engine: Engine) -> list[str]:
    """Return the differences between the tables in the database and ``storage.tables``; empty if there are none."""
    ischema_names["xid8"] = XID8  # SQLAlchemy does not know this type
    with errors_named(engine), engine.connect() as connection:
        partitions = set(connection.scalars(text("SELECT relname FROM pg_class WHERE relispartition")))

        def is_ours(name: str | None, kind: str, _parents: object) -> bool:
            return kind != "table" or name not in partitions

        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_name": is_ours})
        return [str(difference) for difference in compare_metadata(context, Base.metadata)]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.set_main_option("path_separator", "os")
    return config


def _run(engine: Engine, action: Callable[[Config], None]) -> None:
    with errors_named(engine), engine.connect() as connection:
        _refuse_unknown(connection)
        if is_pooled(connection):  # the lock would stay with a pooled server process
            raise FatalError(
                "migrations cannot run through pgbouncer: set RAMQ_DATABASE_URL to PostgreSQL's own address"
            )
        # A session lock, because each migration commits by itself. Closing the connection would release it too.
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
        connection.commit()
        try:
            config = _config()
            config.attributes["connection"] = connection
            action(config)
            connection.commit()
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATION_LOCK})
            connection.commit()


def _refuse_unknown(connection: Connection) -> None:
    current = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current is not None and current not in known:
        raise FatalError(f"the database is at revision {current}, newer than this version of ramq: update ramq")
    connection.rollback()

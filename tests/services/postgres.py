"""Databases for tests on one real server, each a copy of a template that was migrated once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import Iterator

_TEMPLATE = "migrated"


@dataclass(frozen=True)
class PostgresServer:
    """A running server.

    Attributes:
        url: of its administrative database, for SQLAlchemy.
    """

    url: str
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url_of(self, database: str) -> str:
        return make_url(self.url).set(database=database).render_as_string(hide_password=False)

    def create_database(self, name: str | None = None, *, template: str = "template1") -> str:
        """Makes a database, by default with a name of its own; returns its address."""
        name = name or f"test_{next(self._numbers)}"
        self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return self.url_of(name)

    def create_migrated_database(self) -> str:
        """Makes a database with the newest schema; returns its address."""
        if not self._exists(_TEMPLATE):
            self._create_template()
        return self.create_database(template=_TEMPLATE)

    def drop_database(self, url: str) -> None:
        """Drops a database, ending whoever is still connected."""
        name = make_url(url).database
        assert name is not None
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _create_template(self) -> None:
        from storage import migrate  # noqa: PLC0415 - tests without a database need not import it

        unfinished = f"{_TEMPLATE}_unfinished"
        self.drop_database(self.url_of(unfinished))
        engine = create_engine(self.create_database(unfinished), poolclass=NullPool)
        migrate.upgrade(engine)
        engine.dispose()
        self._execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(unfinished), sql.Identifier(_TEMPLATE))
        )

    def _exists(self, name: str) -> bool:
        with self._connect() as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        return found is not None

    def _execute(self, statement: sql.Composed) -> None:
        with self._connect() as connection:
            connection.execute(statement)

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        address = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(address, autocommit=True)

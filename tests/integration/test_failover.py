"""The database fails over to its standby: clients wait, find the new primary, and lose nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url, text

from ramq.database_address import for_sqlalchemy
from storage.database import driver_connection, make_engine, unit_of_work
from storage.errors import ServiceUnavailableError
from tests.services.standby import standby_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.orm import Session

pytestmark = pytest.mark.services


@pytest.fixture
def standby_url(database_url: str, tmp_path: Path) -> Iterator[str]:
    with standby_of(database_url, tmp_path / "standby") as url:
        yield url


def write(session: Session) -> None:
    session.execute(text("CREATE TABLE written ()"))


def write_with_driver(session: Session) -> None:
    driver_connection(session).execute("CREATE TABLE written ()")


@pytest.mark.parametrize("attempt", [write, write_with_driver])
def test_a_write_to_a_standby_is_an_error_to_wait_for_and_its_connections_are_given_up(
    standby_url: str, attempt: Callable[[Session], None]
) -> None:
    engine = make_engine(standby_url)
    with unit_of_work(engine) as one, unit_of_work(engine) as other:
        one.execute(text("SELECT 1"))
        other.execute(text("SELECT 1"))
    assert engine.pool.checkedin() == 2  # type: ignore[attr-defined]  # every pool but the base class has it
    with (
        pytest.raises(ServiceUnavailableError, match=r"takes no writes.*target_session_attrs=read-write"),
        unit_of_work(engine) as session,
    ):
        attempt(session)
    assert engine.pool.checkedin() == 0  # type: ignore[attr-defined]  # as above
    engine.dispose()


def test_of_several_servers_the_one_that_takes_writes_is_found(database_url: str, standby_url: str) -> None:
    primary, standby = make_url(database_url), make_url(standby_url)
    folders = ",".join(str(url.query["host"]) for url in (standby, primary))
    ports = ",".join(str(url.query["port"]) for url in (standby, primary))
    address = f"postgresql://{primary.username}@/{primary.database}?host={folders}&port={ports}"
    engine = make_engine(for_sqlalchemy(f"{address}&target_session_attrs=read-write"))
    with unit_of_work(engine) as session:
        write(session)
    engine.dispose()

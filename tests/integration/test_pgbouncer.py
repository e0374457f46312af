"""Behind pgbouncer in transaction mode, where each transaction may get another of the server's processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import driver_connection, make_engine, unit_of_work
from storage.errors import FatalError
from storage.migrate import upgrade
from tests.services.checker import check_job, fill
from tests.services.fleet import client_services, running_fleet, wait_for
from tests.services.pgbouncer import pgbouncer_to

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from ramq.settings import Settings

pytestmark = pytest.mark.services

CONNECTIONS = 4
TIMES = 10


@pytest.fixture
def pooled_url(database_url: str, tmp_path: Path) -> Iterator[str]:
    with pgbouncer_to(database_url, tmp_path / "pgbouncer", CONNECTIONS) as url:
        yield url


@dataclass(frozen=True)
class _Seen:
    """What a transaction found."""

    process: int
    timezone: str
    may_be_idle: str
    prepared: int


def _look(session: Session) -> _Seen:
    asked = """SELECT pg_backend_pid(), current_setting('TimeZone'),
                   current_setting('idle_in_transaction_session_timeout'),
                   (SELECT count(*) FROM pg_prepared_statements)"""
    row = driver_connection(session).execute(asked, prepare=True).fetchone()
    assert row is not None
    return _Seen(*row)


def test_every_transaction_has_its_limits_whichever_process_serves_it(pooled_url: str) -> None:
    engine = make_engine(pooled_url)
    found = []
    with engine.connect(), engine.connect():
        pass  # both connections are made by way of one process: the other knows of no settings
    for _ in range(TIMES):
        with unit_of_work(engine) as one, unit_of_work(engine) as other:
            found += [_look(one), _look(other)]
    engine.dispose()
    assert len({seen.process for seen in found}) == 2
    assert {(seen.timezone, seen.may_be_idle, seen.prepared) for seen in found} == {("UTC", "1min", 0)}


def test_what_asks_for_it_is_prepared_where_the_connection_is_ones_own(engine: Engine) -> None:
    found = []
    for _ in range(TIMES):
        with unit_of_work(engine) as session:
            session.execute(text("SELECT 1 + 1"))  # does not ask
            found.append(_look(session))
    assert len({seen.process for seen in found}) == 1
    assert {(seen.timezone, seen.may_be_idle, seen.prepared) for seen in found} == {("UTC", "1min", 1)}


def test_a_migration_is_refused_before_it_locks_anything(pooled_url: str, engine: Engine) -> None:
    pooled = make_engine(pooled_url)
    with pytest.raises(FatalError, match="PostgreSQL's own address"):
        upgrade(pooled)
    pooled.dispose()
    with unit_of_work(engine) as session:
        held = "SELECT count(*) FROM pg_locks JOIN pg_database ON database = oid WHERE locktype = 'advisory'"
        assert session.scalar(text(f"{held} AND datname = current_database()")) == 0


def test_workers_do_a_job_and_its_index_is_built(settings: Settings, pooled_url: str, tmp_path: Path) -> None:
    pooled = settings.model_copy(update={"database_url": pooled_url})
    files = fill(tmp_path / "photos", 400)
    with running_fleet(pooled, tmp_path) as fleet, client_services(pooled) as services:
        job = services.jobs.create(str(tmp_path / "photos"))
        fleet.start(2)
        wait_for(services, job.id, fleet, lambda view: view.is_over)
        check_job(services, job.id, files)

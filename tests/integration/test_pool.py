"""All connections of a process are in use, or two transactions wait for each other: both pass, and errors say so."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from ramq.web.app import create_app
from ramq.wiring import Services
from storage import database
from storage.database import make_engine, unit_of_work, wait_for_lock
from storage.errors import ServiceUnavailableError
from tests.services.web import assert_problem

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ramq.settings import Settings

pytestmark = pytest.mark.services


def test_an_exhausted_pool_is_told_as_such_and_recovers(settings: Settings) -> None:
    assert settings.database_url
    engine = make_engine(settings.database_url, pool_size=2)
    engine.pool._timeout = 0.1  # type: ignore[attr-defined]  # instead of half a minute
    app = create_app(Services(settings, engine, settings.broker_url, is_reachable=False))
    client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(unit_of_work(engine)).execute(text("SELECT 1"))
        with (
            pytest.raises(ServiceUnavailableError, match="all connections of this process"),
            unit_of_work(engine) as one,
        ):
            one.execute(text("SELECT 1"))
        problem = assert_problem(client.get("/v1/jobs"), 503, "service-unavailable")
        assert "are in use" in problem["detail"]
        assert "are in use" in client.get("/readyz").json()["database"]
    assert client.get("/v1/jobs").status_code == 200
    engine.dispose()


def test_a_deadlock_says_to_try_again_and_not_that_the_database_is_gone(engine: Engine) -> None:
    both_hold_one = threading.Barrier(2)

    def lock(*locks: int) -> str:
        try:
            with unit_of_work(engine) as session:
                wait_for_lock(session, locks[0])
                both_hold_one.wait()
                wait_for_lock(session, locks[1])
        except ServiceUnavailableError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(2) as threads:
        [said] = filter(None, threads.map(lock, (901, 902), (902, 901)))
    assert said.endswith("so the database undid this one: try again")


def _statements(engine: Engine) -> list[str]:
    """Return the list to which the statements of pings are added."""
    asked: list[str] = []
    ping = engine.dialect.do_ping

    def noting(connection: Any) -> bool:
        asked.append("ping")
        return ping(connection)

    engine.dialect.do_ping = noting  # type: ignore[method-assign]
    return asked


def test_a_connection_that_was_used_a_moment_ago_is_not_asked_whether_it_works(engine: Engine) -> None:
    asked = _statements(engine)
    for _ in range(3):
        with unit_of_work(engine) as session:
            session.execute(text("SELECT 1"))
    assert asked == []


def test_after_many_requests_at_once_one_connection_serves_those_that_come_one_by_one(engine: Engine) -> None:
    with ExitStack() as burst:
        for _ in range(4):
            burst.enter_context(unit_of_work(engine)).execute(text("SELECT 1"))

    def process() -> int | None:
        with unit_of_work(engine) as session:
            return session.scalar(text("SELECT pg_backend_pid()"))

    assert len({process() for _ in range(4)}) == 1, "the others rest, and need not be asked whether they still work"


def test_a_connection_that_rested_is_asked(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _statements(engine)
    with unit_of_work(engine) as session:
        session.execute(text("SELECT 1"))
    monkeypatch.setattr(database, "QUIET_SECONDS", 0.0)
    with unit_of_work(engine) as session:
        session.execute(text("SELECT 1"))
    assert asked == ["ping"]


def test_connections_that_the_server_closed_are_replaced_without_an_error(engine: Engine) -> None:
    with ExitStack() as both:
        pids = [both.enter_context(unit_of_work(engine)).scalar(text("SELECT pg_backend_pid()")) for _ in range(2)]
    other = make_engine(engine.url.render_as_string(hide_password=False))
    with unit_of_work(other) as session:
        for pid in pids:
            session.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})
    with ExitStack() as both:
        fresh = [both.enter_context(unit_of_work(engine)).scalar(text("SELECT pg_backend_pid()")) for _ in range(2)]
    assert not {*pids} & {*fresh}
    other.dispose()

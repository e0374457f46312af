"""All connections of a process are in use, or two transactions wait for each other: both pass, and errors say so."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from ramq.web.app import create_app
from ramq.wiring import Services
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

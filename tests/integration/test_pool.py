"""All connections of a process are in use: that is a service that is not available, and it passes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from ramq.web.app import create_app
from ramq.wiring import Services
from storage.database import make_engine, unit_of_work
from storage.errors import ServiceUnavailableError
from tests.services.web import assert_problem

if TYPE_CHECKING:
    from ramq.settings import Settings

pytestmark = pytest.mark.services


def test_an_exhausted_pool_is_told_as_such_and_recovers(settings: Settings) -> None:
    assert settings.database_url
    engine = make_engine(settings.database_url, pool_size=1)
    engine.pool._timeout = 0.1  # type: ignore[attr-defined]  # instead of half a minute
    app = create_app(Services(settings, engine, settings.broker_url, is_reachable=False))
    client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    with ExitStack() as held:
        for _ in range(2):  # the one of the pool and the one above it
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

"""A running server, and what tests of the web ask of an answer."""

from __future__ import annotations

import pickle
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from fastapi.openapi.utils import get_openapi

from ramq.web.server import listen, make_server, url_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from httpx2 import Response
    from starlette.testclient import TestClient

    from ramq.wiring import Services


def bearer(secret: str) -> dict[str, str]:
    """Return the header that presents a token."""
    return {"authorization": f"Bearer {secret}"}


@contextmanager
def described_once() -> Iterator[None]:
    """Let FastAPI describe the routes once, not for every application: they are the same, and it takes half a second.

    Each application gets a copy of its own.
    """
    described: list[bytes] = []

    def describe(**facts: Any) -> Any:
        if not described:
            described.append(pickle.dumps(get_openapi(**facts)))
        return pickle.loads(described[0])

    with patch("fastapi.applications.get_openapi", describe):
        yield


@contextmanager
def serving(services: Services) -> Iterator[str]:
    """The address of a server over ``services`` that runs while the block does."""
    listener = listen(services, "127.0.0.1", 0)
    server = make_server(services)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield url_of(listener).rstrip("/")
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def services_of(client: TestClient) -> Services:
    services: Services = client.app.state.services  # type: ignore[attr-defined]  # FastAPI's own
    return services


def assert_problem(response: Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["type"] == f"urn:ramq:problem:{code}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    return problem


def job_of(client: TestClient) -> dict[str, Any]:
    """The only job there is."""
    (listed,) = client.get("/v1/jobs").json()["items"]
    job: dict[str, Any] = client.get(f"/v1/jobs/{listed['id']}").json()
    return job

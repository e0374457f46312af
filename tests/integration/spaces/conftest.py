"""A server whose models folder has tiny towers, and a worker that makes the vectors of any space."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from tests.services.spaces import install_towers, space_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI
    from starlette.testclient import TestClient

    from ramq.wiring import Services
    from workers.lifecycle import Worker


@pytest.fixture
def ramq(client: TestClient) -> Services:
    services = cast("Services", cast("FastAPI", client.app).state.services)
    install_towers(services)
    return services


@pytest.fixture
def worker(ramq: Services) -> Iterator[Worker]:
    with space_worker(ramq) as made:
        yield made

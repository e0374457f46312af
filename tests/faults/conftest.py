"""What the tests of faults share: their size, and services that may be broken."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from ramq.embedded import EmbeddedError
from ramq.settings import Settings
from tests.services.breakable import BreakableServices, breakable_services
from tests.services.missing import missing
from tests.services.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IS_FULL = os.environ.get("RAMQ_FAULTS") == "full"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/faults/" in item.path.as_posix():
            item.add_marker(pytest.mark.services)
            item.add_marker(pytest.mark.timeout(1800 if IS_FULL else 300))


@pytest.fixture
def amount() -> Callable[[int, int], int]:
    """Chooses between the reduced number and the full one, which ``RAMQ_FAULTS=full`` asks for."""
    return lambda reduced, full: full if IS_FULL else reduced


@pytest.fixture(scope="session")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BreakableServices]:
    """Services of these tests alone."""
    folder = tmp_path_factory.mktemp("breakable")
    try:
        running = breakable_services(folder)
        services = running.__enter__()
    except EmbeddedError as error:
        missing(str(error))
    yield services
    running.__exit__(None, None, None)
    shutil.rmtree(folder)


@pytest.fixture
def breakable_settings(breakable: BreakableServices, tmp_path: Path, no_ramq_environment: None) -> Iterator[Settings]:
    """A fresh database and an empty broker on services that may be broken."""
    server = PostgresServer(breakable.database_url)
    breakable.empty_redis()
    url = server.create_migrated_database()
    yield Settings(data_dir=tmp_path / "data", database_url=url, broker_url=breakable.broker_url)
    server.drop_database(url)

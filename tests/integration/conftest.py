"""The web application on a copy of a database with recognised photographs; a ledger and an index on an empty one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from ramq.web.app import create_app
from ramq.wiring import Services
from storage.database import make_engine
from storage.index.builder import IndexBuilder
from storage.index.index import VectorIndex
from storage.index.places import FolderPlace
from storage.search import Search
from tests.ledger import Ledger
from tests.services.recognised import make_recognised_database, settings_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from tests.services.postgres import PostgresServer


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="session")
def archive(stage: Path) -> Path:
    folder = stage / "photographs"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def recognised(postgres_server: PostgresServer, stage: Path, archive: Path) -> Iterator[str]:
    """The name of a database that holds a finished job, to be copied."""
    url = postgres_server.create_migrated_database()
    make_recognised_database(url, stage / "data", archive)
    yield url.rpartition("/")[2].partition("?")[0]
    postgres_server.drop_database(url)


@pytest.fixture
def make_client(
    postgres_server: PostgresServer, recognised: str, stage: Path, broker_url: str
) -> Iterator[Callable[..., TestClient]]:
    """Makes clients of one application each, all on one copy of the recognised database."""
    url = postgres_server.create_database(template=recognised)
    engine = make_engine(url)

    def make(**changes: Any) -> TestClient:
        services = Services(settings_for(stage / "data", **changes), engine, broker_url, is_reachable=False)
        app = create_app(services)
        return TestClient(app, base_url="http://localhost", raise_server_exceptions=False, follow_redirects=False)

    yield make
    engine.dispose()
    postgres_server.drop_database(url)


@pytest.fixture
def client(make_client: Callable[..., TestClient]) -> TestClient:
    return make_client()


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    return Ledger.new(engine)


@pytest.fixture
def builder(engine: Engine, tmp_path: Path) -> IndexBuilder:
    return IndexBuilder(engine, FolderPlace(tmp_path / "index"), tmp_path / "builder-cache")


@pytest.fixture
def index(tmp_path: Path) -> VectorIndex:
    return VectorIndex(FolderPlace(tmp_path / "index"), tmp_path / "reader-cache")


@pytest.fixture
def search(index: VectorIndex) -> Search:
    return Search(lambda: index)

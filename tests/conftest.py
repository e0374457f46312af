"""Real services for every test that asks for one: started once per test process, stopped however it ends."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from ramq.embedded import EmbeddedError, EmbeddedServices, embedded
from ramq.settings import Settings
from storage.database import make_engine
from tests.services.fault_proxy import FaultProxy, fault_proxy
from tests.services.fleet import client_services, running_fleet
from tests.services.missing import missing
from tests.services.postgres import PostgresServer
from tests.services.recognised import make_archive, make_recognised_database
from tests.services.redis import RedisServer
from tests.services.s3 import S3Server
from tests.services.s3 import s3_server as run_s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from ramq.wiring import Services
    from tests.services.fleet import Fleet


MEMORY = Path("/dev/shm")
"""On Linux, files in memory."""
MEMORY_BYTES = 4 * 1024**3
"""More than all files of a whole run."""


def pytest_configure(config: pytest.Config) -> None:
    """Let several test processes that share the cores have a thread each, and keep the files of tests in memory.

    Threads of each that wait for one another cost many times what they give. This is said before the processes begin:
    what they import at once would not hear it later. In memory, no test waits for a disk at the thousands of commits
    and the hundreds of databases that are made; ``PYTEST_DEBUG_TEMPROOT`` says otherwise.
    """
    # Without bytecode, each of the hundreds of processes that tests start would compile all of our modules again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    # Other programs on the machine must not make a test fail.
    hypothesis_settings.register_profile(
        "untimed", parent=hypothesis_settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    hypothesis_settings.load_profile("untimed")


@pytest.fixture(scope="session")
def embedded_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServices]:
    """PostgreSQL and Redis of this test process."""
    folder = tmp_path_factory.mktemp("services")
    try:
        running = embedded(folder)
        services = running.__enter__()
    except EmbeddedError as error:
        missing(str(error))
    yield services
    running.__exit__(None, None, None)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server(embedded_services: EmbeddedServices) -> PostgresServer:
    """A server on which tests make databases."""
    return PostgresServer(embedded_services.database_url)


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database of this test alone, with the newest schema and no rows."""
    url = postgres_server.create_migrated_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url, pool_size=20)
    yield engine
    engine.dispose()


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database of this test alone, without any schema."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(scope="session")
def redis_server(embedded_services: EmbeddedServices) -> RedisServer:
    """A server that tests share."""
    return RedisServer(embedded_services.broker_url)


@pytest.fixture
def broker_url(redis_server: RedisServer) -> str:
    """The broker, empty."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server."""
    folder = tmp_path_factory.mktemp("s3")
    with run_s3_server(folder) as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[str]:
    """The name of an empty bucket of this test alone; deleted, or the server would run out of volumes."""
    name = s3_server.make_bucket()
    yield name
    s3_server.delete_bucket(name)


@pytest.fixture
def s3_proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """A proxy in front of the S3 server, for faults."""
    with fault_proxy(s3_server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def no_ramq_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings come from the test alone."""
    for name in [name for name in os.environ if name.startswith("RAMQ_") and name != "RAMQ_SHARED_DIR"]:
        monkeypatch.delenv(name)


@pytest.fixture
def no_aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials come from the test alone."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def settings(tmp_path: Path, database_url: str, broker_url: str, no_ramq_environment: None) -> Settings:
    return Settings(data_dir=tmp_path / "data", database_url=database_url, broker_url=broker_url)


@pytest.fixture
def s3_settings(settings: Settings, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return settings.model_copy(update={"s3_endpoint_url": s3_server.endpoint_url})


@pytest.fixture
def fleet(settings: Settings, tmp_path: Path) -> Iterator[Fleet]:
    with running_fleet(settings, tmp_path) as fleet:
        yield fleet


@pytest.fixture
def services(settings: Settings) -> Iterator[Services]:
    with client_services(settings) as services:
        yield services


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the photographs that are recognised once."""
    return tmp_path_factory.mktemp("stage")


@pytest.fixture(scope="session")
def archive(stage: Path) -> Path:
    folder = stage / "photographs"
    folder.mkdir()
    make_archive(folder)
    return folder


@pytest.fixture(scope="session")
def recognised(postgres_server: PostgresServer, stage: Path, archive: Path) -> Iterator[str]:
    """The name of a database that holds a finished job, to be copied."""
    url = postgres_server.create_migrated_database()
    make_recognised_database(url, stage / "data", archive)
    yield url.rpartition("/")[2].partition("?")[0]
    postgres_server.drop_database(url)


@pytest.fixture
def recognised_engine(postgres_server: PostgresServer, recognised: str) -> Iterator[Engine]:
    """A copy of that database, of this test alone."""
    url = postgres_server.create_database(template=recognised)
    engine = make_engine(url)
    yield engine
    engine.dispose()
    postgres_server.drop_database(url)

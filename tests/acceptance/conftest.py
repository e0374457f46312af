from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ramq.settings import Settings
from tests.services.crew import client_services, running_crew
from tests.services.embeddings import with_embeddings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ramq.wiring import Services
    from tests.services.crew import Crew
    from tests.services.s3 import S3Server


@pytest.fixture
def settings(tmp_path: Path, database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith("RAMQ_") and name != "RAMQ_SHARED_DIR"]:
        monkeypatch.delenv(name)
    return Settings(data_dir=with_embeddings(tmp_path / "data"), database_url=database_url, broker_url=broker_url)


@pytest.fixture
def s3_settings(settings: Settings, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return settings.model_copy(update={"s3_endpoint_url": s3_server.endpoint_url})


@pytest.fixture
def crew(settings: Settings, tmp_path: Path) -> Iterator[Crew]:
    with running_crew(settings, tmp_path) as crew:
        yield crew


@pytest.fixture
def services(settings: Settings) -> Iterator[Services]:
    with client_services(settings) as services:
        yield services

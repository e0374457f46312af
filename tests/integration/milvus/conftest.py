"""An archive, and an index of its images in Milvus. Each test has its own, and runs twice.

Once with a file of Milvus Lite, and once with a database of a real server, where that is installed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from storage.index.file_storage import FolderStorage
from storage.index.milvus.builder import MilvusBuilder
from storage.index.milvus.client import Milvus
from storage.index.milvus.reader import MilvusIndex
from tests.archive_model import ArchiveModel
from tests.services.milvus import milvus_server as run_milvus_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from tests.services.milvus import MilvusServer


@pytest.fixture
def archive(engine: Engine) -> ArchiveModel:
    return ArchiveModel(engine, images_of_each=20)


@pytest.fixture(scope="session")
def milvus_server() -> Iterator[MilvusServer]:
    """A server that tests share."""
    # On a disk: the program alone unpacks 300 MB.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, run_milvus_server(Path(folder)) as server:
        yield server


@pytest.fixture(params=["lite", "server"])
def milvus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Milvus]:
    if request.param == "server":
        with request.getfixturevalue("milvus_server").database() as milvus:
            yield milvus
        return
    milvus = Milvus((tmp_path / "milvus.db").as_uri().replace("file:", "milvus+file:"))
    yield milvus
    milvus.close()


@pytest.fixture
def builder(milvus: Milvus, engine: Engine, tmp_path: Path) -> MilvusBuilder:
    return MilvusBuilder(milvus, engine, FolderStorage(tmp_path / "index"), tmp_path / "builder-cache", min_rows=1)


@pytest.fixture
def index(milvus: Milvus, tmp_path: Path) -> MilvusIndex:
    return MilvusIndex(milvus, FolderStorage(tmp_path / "index"), tmp_path / "reader-cache")

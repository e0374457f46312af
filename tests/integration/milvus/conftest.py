"""An archive, and an index of its images in a file of Milvus Lite. Each test has its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storage.index.file_storage import FolderStorage
from storage.index.milvus.builder import MilvusBuilder
from storage.index.milvus.client import Milvus
from storage.index.milvus.reader import MilvusIndex
from tests.archive_model import ArchiveModel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine


@pytest.fixture
def archive(engine: Engine) -> ArchiveModel:
    return ArchiveModel(engine, images_of_each=20)


@pytest.fixture
def milvus(tmp_path: Path) -> Iterator[Milvus]:
    milvus = Milvus((tmp_path / "milvus.db").as_uri().replace("file:", "milvus+file:"))
    yield milvus
    milvus.close()


@pytest.fixture
def builder(milvus: Milvus, engine: Engine, tmp_path: Path) -> MilvusBuilder:
    return MilvusBuilder(milvus, engine, FolderStorage(tmp_path / "index"), tmp_path / "builder-cache", min_rows=1)


@pytest.fixture
def index(milvus: Milvus, tmp_path: Path) -> MilvusIndex:
    return MilvusIndex(milvus, FolderStorage(tmp_path / "index"), tmp_path / "reader-cache")

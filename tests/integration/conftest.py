"""The web application on a copy of a database with recognised photographs; a ledger and an index on an empty one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from ramq.web.app import create_app
from ramq.wiring import Services
from storage.index.builder import IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.index.index import VectorIndex
from storage.search.search import Search
from tests import crop_archive
from tests.ledger import Ledger
from tests.metadata_archive import worker
from tests.same_picture import Photos, picture
from tests.services.clock import Clock
from tests.services.recognised import settings_for
from tests.services.web import described_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from workers.lifecycle import Worker


@pytest.fixture(scope="session", autouse=True)
def _described_once() -> Iterator[None]:
    with described_once():
        yield


@pytest.fixture
def make_client(recognised_engine: Engine, tmp_path: Path, broker_url: str) -> Callable[..., TestClient]:
    """Makes clients of one application each, all on one copy of the recognised database."""

    def make(**changes: Any) -> TestClient:
        settings = settings_for(tmp_path / "data", **changes)
        app = create_app(Services(settings, recognised_engine, broker_url, is_reachable=False))
        return TestClient(app, base_url="http://localhost", raise_server_exceptions=False, follow_redirects=False)

    return make


@pytest.fixture
def client(make_client: Callable[..., TestClient]) -> TestClient:
    return make_client()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(make_client: Callable[..., TestClient], clock: Clock) -> Callable[..., TestClient]:
    """Makes web servers over one database, all with the clock of the test."""

    def make_one(**changes: Any) -> TestClient:
        client = make_client(**changes)
        client.app.state.callers._clock = clock  # type: ignore[attr-defined]  # FastAPI's own
        return client

    return make_one


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    return Ledger.new(engine)


@pytest.fixture
def builder(engine: Engine, tmp_path: Path) -> IndexBuilder:
    return IndexBuilder(engine, FolderStorage(tmp_path / "index"), tmp_path / "builder-cache")


@pytest.fixture
def index(tmp_path: Path) -> VectorIndex:
    return VectorIndex(FolderStorage(tmp_path / "index"), tmp_path / "reader-cache")


@pytest.fixture
def search(index: VectorIndex) -> Search:
    return Search(lambda: index)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of pictures of noise."""
    return crop_archive.write_pictures(tmp_path / "photos")


@pytest.fixture
def crop_worker(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """See ``crop_archive.crop_worker``."""
    with crop_archive.crop_worker(services, monkeypatch) as worker:
        yield worker


@pytest.fixture
def located(services: Services, crop_worker: Worker, pictures: Path) -> Services:
    """Services with recognised images, of which all but the last have regions."""
    crop_archive.work(services, crop_worker, services.jobs.create(str(pictures)))
    crop_archive.locate_all(services)
    return services


@pytest.fixture
def cropped(located: Services, crop_worker: Worker) -> Services:
    """Services whose regions have vectors."""
    job = crop_archive.work(located, crop_worker, crop_archive.start(located))
    assert (job.state, job.done, job.failed) == ("done", crop_archive.COUNT, 0)
    return located


@pytest.fixture
def photos(services: Services, crop_worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Photos:
    """Three pictures, recognised."""
    monkeypatch.setenv("NULL_MODEL_COUNT", str(tmp_path / "count"))
    for number, name in enumerate(("a.png", "b/c.png", "d.png")):
        picture(tmp_path / "photos" / name, number)
    photos = Photos(services, crop_worker, tmp_path / "photos", tmp_path / "count")
    assert (photos.run().done, photos.asked) == (3, 3)
    return photos


@pytest.fixture
def made(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker of this process."""
    with worker(services, monkeypatch) as made:
        yield made

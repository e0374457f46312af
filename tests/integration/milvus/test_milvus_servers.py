"""Servers of several versions, and what a real one refuses and survives."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import structlog

from ramq.doctor import examine
from storage.errors import ServiceUnavailableError
from storage.index.file_storage import FolderStorage
from storage.index.milvus.builder import MilvusBuilder
from storage.index.milvus.client import Milvus
from storage.index.milvus.reader import MilvusIndex
from storage.search.search import Search
from tests.search_checks import check
from tests.services.fleet import client_services
from tests.services.milvus import milvus_server as run_milvus_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ramq.settings import Settings
    from storage.results.projection import RawRows
    from tests.archive_model import ArchiveModel
    from tests.services.milvus import MilvusServer

pytestmark = pytest.mark.services

FILTERED = {"archive", "job", "modified", "size", "key", "assigned"}


class _Indexes(dict[str, dict[str, Any]]):
    def add_index(self, field: str, **how: object) -> None:
        self[field] = how


class _Schema:
    def add_field(self, *_: object, **__: object) -> None:
        """Take any field."""


class _Server:
    """Stands for a server of some version. It remembers the indexes of the collection, and finds nothing."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.created: _Indexes | None = None
        self.searched: dict[str, Any] = {}

    def get_server_version(self, **_: object) -> str:
        return self.version

    def list_collections(self, **_: object) -> list[str]:
        return []

    def create_schema(self, **_: object) -> _Schema:
        return _Schema()

    def prepare_index_params(self) -> _Indexes:
        return _Indexes()

    def create_collection(self, _: str, *, index_params: _Indexes, **__: object) -> None:
        self.created = index_params

    def search(self, _: str, **asked: Any) -> list[list[object]]:
        self.searched = asked
        return [[]]


def served_by(server: _Server, monkeypatch: pytest.MonkeyPatch) -> Milvus:
    milvus = Milvus("milvus+http://127.0.0.1:19530/ramq")
    monkeypatch.setitem(milvus.__dict__, "_opened", server)
    return milvus


@pytest.mark.parametrize("version", ["v1.1.1", "2.2.16", "v2.3.4-dev"])
def test_a_server_that_is_too_old_is_refused_in_words_before_anything_is_made(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = _Server(version)
    milvus = served_by(server, monkeypatch)
    for call in (milvus.check, lambda: milvus.create("x", 8)):
        with pytest.raises(ServiceUnavailableError, match=rf"is version {version}, .*: upgrade it to 2\.5 or newer"):
            call()
    assert server.created is None


@pytest.mark.parametrize(
    ("version", "has_filter_indexes"),
    [("v2.3.5-lite", False), ("2.4.15", False), ("v2.5.0", True), ("2.6.3-dev", True), ("master-4f2a9", True)],
)
def test_a_server_gets_the_indexes_that_its_version_has(
    version: str, has_filter_indexes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = _Server(version)
    milvus = served_by(server, monkeypatch)
    milvus.check()
    milvus.create("x", 8)
    assert server.created is not None
    assert set(server.created) == ({"vector", *FILTERED} if has_filter_indexes else {"vector"})


@pytest.mark.parametrize(("k", "effort"), [(10, 512), (1_000, 2_000), (16_384, 32_768), (10**6, 32_768)])
def test_a_server_searches_among_more_candidates_than_are_asked_for(
    k: int, effort: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = _Server("2.5.0")
    served_by(server, monkeypatch).nearest("x", "pk <= 0", np.zeros(8, np.float32), k)
    assert server.searched["search_params"] == {"params": {"ef": effort}}
    assert server.searched["limit"] <= effort


def test_a_web_server_says_at_its_start_that_milvus_cannot_be_used(settings: Settings) -> None:
    ours = settings.model_copy(update={"index_url": "milvus+http://127.0.0.1:9"})
    with client_services(ours) as services, structlog.testing.capture_logs() as logged, services.index.following():
        pass
    assert [line["event"] for line in logged] == ["index_unusable"]
    assert "Milvus cannot be reached at http://127.0.0.1:9" in logged[0]["error"]


def test_a_builder_asks_until_milvus_can_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = _Server("2.2.0")
    milvus = served_by(server, monkeypatch)
    builder = MilvusBuilder(milvus, _no_engine(), FolderStorage(tmp_path), tmp_path)
    for _ in range(2):
        with pytest.raises(ServiceUnavailableError, match="upgrade it"):
            builder.check()
    server.version = "2.5.0"
    builder.check()
    server.version = "2.2.0"
    builder.check()


def _no_engine() -> Any:
    class Engine:
        def execution_options(self, **_: object) -> Engine:
            return self

    return Engine()


# A real server --------------------------------------------------------------------------------------------------------


def test_a_real_server_says_what_is_wrong_with_the_address_in_a_line(
    milvus_server: MilvusServer, settings: Settings
) -> None:
    place = f"Milvus at http://127.0.0.1:{milvus_server.port}"
    wrong = {
        milvus_server.url(password="wrong-password"): f"{place} rejects the user or the password in RAMQ_INDEX_URL",
        f"milvus+http://127.0.0.1:{milvus_server.port}": f"{place} wants a user and a password: set RAMQ_INDEX_URL",
        milvus_server.url("nowhere"): f"{place} has no database nowhere: create it, or correct RAMQ_INDEX_URL",
    }
    for url, said in wrong.items():
        ours = settings.model_copy(update={"index_url": url})
        [found] = [finding for finding in examine(ours) if finding.name == "index"]
        assert found.state == "fault"
        assert said in found.detail
        done = subprocess.run(
            [sys.executable, "-m", "ramq.cli.main", "index", "status"],
            env={
                **os.environ,
                "RAMQ_DATA_DIR": str(ours.data_dir),
                "RAMQ_DATABASE_URL": str(ours.database_url),
                "RAMQ_INDEX_URL": url,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 3
        assert len(done.stderr.splitlines()) == 1
        assert said in done.stderr
        assert "wrong-password" not in done.stderr


@pytest.fixture
def own_server() -> Iterator[MilvusServer]:
    """A server that no other test uses."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, run_milvus_server(Path(folder)) as server:
        yield server


def test_a_server_that_dies_while_rows_are_written_loses_nothing(
    archive: ArchiveModel, own_server: MilvusServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.record(0, sorted(archive.facts)[:20])
    with ExitStack() as stack:
        milvus = Milvus(own_server.url())
        stack.callback(milvus.close)
        place = FolderStorage(tmp_path / "index")
        builder = MilvusBuilder(milvus, archive.engine, place, tmp_path / "builder-cache", min_rows=1)
        index = MilvusIndex(milvus, place, tmp_path / "reader-cache")
        builder.publish_new(archive.generations[0], force=True)
        archive.record(0, sorted(archive.facts))
        archive.delete(sorted(archive.facts)[:3])
        write = milvus.upsert

        def write_and_die(collection: str, raw: RawRows, *rest: Any) -> None:
            write(collection, raw, *rest)
            own_server.kill()

        with monkeypatch.context() as patched:
            patched.setattr(milvus, "upsert", write_and_die)
            with pytest.raises(ServiceUnavailableError, match="Milvus cannot be reached"):
                builder.publish_new(archive.generations[0], force=True)
        own_server.start()

        check(archive, Search(lambda: index), 0)
        builder.publish_new(archive.generations[0], force=True)
        assert builder.verify(archive.generations[0]) == []
        check(archive, Search(lambda: index), 0)

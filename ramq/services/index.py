"""The vector index: its readers, its builder and its state."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from storage.background import repeated
from storage.database import unit_of_work
from storage.errors import RamqError
from storage.results.index_rows import indexed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from ramq.settings import Settings
    from storage.index.builder import IndexBuilder
    from storage.index.file_storage import FileStorage
    from storage.index.index import VectorIndex
    from storage.index.status import Lag
    from storage.results.generation_views import IndexView
    from storage.standby import Databases

log = structlog.get_logger()

FOLLOW_SECONDS = 1.0


class IndexClient:
    """The index of this process. Thread-safe.

    Args:
        databases: the database, and the standby that searches read.
        settings: the location of the index.
    """

    def __init__(self, databases: Databases, settings: Settings) -> None:
        self._databases, self._engine = databases, databases.engine
        self._settings = settings
        self._lock = threading.Lock()
        self._readers: dict[bool, VectorIndex] = {}

    def reader(self, *, of_standby: bool = False) -> VectorIndex:
        """Return this process's reader of the index. It is opened at its first use.

        A standby lags behind the database. It has a reader of its own, which does not switch between the two states.
        """
        with self._lock:
            if of_standby not in self._readers:
                self._readers[of_standby] = make_index(self._settings)
            return self._readers[of_standby]

    @contextmanager
    def following(self) -> Iterator[None]:
        """Open what is published while the block runs, so that searches do not have to: see ``VectorIndex.follow``."""

        def follow() -> bool:
            with self._lock:
                readers = list(self._readers.items())
            for of_standby, reader in readers:
                if not of_standby:
                    reader.follow(self._engine)
                elif self._databases.standby is not None and self._databases.why_not_standby is None:
                    reader.follow(self._databases.standby)
            return True

        with repeated("index", FOLLOW_SECONDS, follow):
            if self._settings.is_index_in_milvus:
                self._log_if_unusable()
            yield

    def _log_if_unusable(self) -> None:
        try:
            self.check()
        except RamqError as error:  # pages that need no index work, and it may come back
            log.warning("index_unusable", error=str(error))

    def status(self) -> list[IndexView]:
        """Return the state of every generation's index."""
        with unit_of_work(self._engine) as session:
            return [self.reader().status(session, generation_id) for generation_id in indexed(session)]

    def lags(self) -> list[Lag]:
        """Return how far the index of every generation is behind the database. Reads no file of it."""
        from storage.index.status import lag  # noqa: PLC0415  (with what it needs, it takes a while to load)

        with unit_of_work(self._engine) as session:
            return [lag(session, generation_id) for generation_id in indexed(session)]

    def generations(self) -> list[int]:
        """Return the generations that have an index: those whose results are vectors, oldest first."""
        with unit_of_work(self._engine) as session:
            return list(indexed(session))

    def check(self) -> None:
        """Raise ``ServiceUnavailableError`` if the index cannot be reached. The message says why."""
        self.reader().check()


def make_place(settings: Settings) -> FileStorage:
    """Return the storage of the files of the index, and of the log of deletions beside them."""
    from storage.index.file_storage import SETTING, open_storage  # noqa: PLC0415

    named = files_setting(settings, SETTING)
    return open_storage(settings.index_files_location, endpoint_url=settings.s3_endpoint_url, setting=named)


def files_setting(settings: Settings, setting: str) -> str:
    """Return how errors name what says where the files of an index are, whose location ``setting`` has."""
    return f"`files` in {setting}" if settings.is_index_in_milvus else setting


def make_index(settings: Settings) -> VectorIndex:
    """Return this process's reader of the vector index."""
    from storage.index.index import VectorIndex  # noqa: PLC0415  (faiss takes a while; not every command needs it)

    place = make_place(settings)
    if not settings.is_index_in_milvus:
        return VectorIndex(place, settings.cache_path / "index")
    from storage.index.milvus.client import Milvus  # noqa: PLC0415
    from storage.index.milvus.reader import MilvusIndex  # noqa: PLC0415

    return MilvusIndex(Milvus(settings.index_location), place, settings.cache_path / "index")


def make_builder(settings: Settings, engine: Engine) -> IndexBuilder:
    """Return a builder of the vector index."""
    from storage.index.builder import IndexBuilder  # noqa: PLC0415

    place = make_place(settings)
    if not settings.is_index_in_milvus:
        return IndexBuilder(engine, place, settings.cache_path / "index")
    from storage.index.milvus.builder import MilvusBuilder  # noqa: PLC0415
    from storage.index.milvus.client import Milvus  # noqa: PLC0415

    return MilvusBuilder(Milvus(settings.index_location), engine, place, settings.cache_path / "index")

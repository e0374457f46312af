"""The shadow: a second index, filled from the same database, with which searches are compared before a switch.

It is kept below ``shadow`` in the folder of its files, and its collections in Milvus have names of their own. So it
cannot be taken for the index, even where both are in one place.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from ramq.services.index import files_setting
from ramq.services.shadow_comparer import ShadowComparer
from ramq.services.shadow_tally import Tally
from storage.background import repeated
from storage.database import unit_of_work
from storage.errors import RamqError, UsageError
from storage.results import vectors as repository
from storage.results.index_rows import indexed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Engine

    from ramq.settings import Settings
    from storage.index.builder import IndexBuilder
    from storage.index.file_storage import FileStorage
    from storage.index.index import VectorIndex
    from storage.results.erasure_views import Trace
    from storage.results.generation_views import IndexView
    from storage.search.search import Search

log = structlog.get_logger(__name__)

SETTING = "RAMQ_SHADOW_INDEX_URL"
"""The setting that has its location, as errors name it."""

FILL_SECONDS = 15.0
"""How often a worker looks whether the shadow lacks rows."""

REQUEST_SECONDS = 10.0
"""How long a comparison waits for an answer of Milvus."""

MAX_ROWS_BYTES = 64 * 2**20
"""Of rows that the shadow lacks: with more, searches are not compared, since PostgreSQL would answer both."""


class ShadowClient:
    """The shadow of the index. Thread-safe. Most methods raise ``UsageError`` if none is set.

    Args:
        engine: the database.
        settings: the location of the shadow.
        search_engine: the database that is searched.
        search: returns searches over the index.

    Attributes:
        comparer: compares searches with the shadow while it runs.
    """

    def __init__(self, engine: Engine, settings: Settings, search_engine: Engine, search: Callable[[], Search]) -> None:
        self._engine = engine
        self._settings = settings
        self.comparer = _comparer(settings, search_engine, search)

    @property
    def is_set(self) -> bool:
        """Whether there is one."""
        return self._settings.shadow_index_url is not None

    def status(self) -> list[IndexView]:
        """Return how much of each generation the shadow has. Raises ``ServiceUnavailableError``."""
        reader = make_shadow_index(self._settings)
        reader.check()
        with unit_of_work(self._engine) as session:
            return [reader.status(session, generation_id) for generation_id in indexed(session)]

    def compared(self) -> Tally:
        """Return what all web servers have found so far."""
        require(self._settings)
        return Tally.read(place_of(self._settings))

    def build(self, *, again: bool = False) -> None:
        """Bring the shadow up to date with the database, erasures included.

        Args:
            again: build it from the database alone, instead of adding what it lacks.

        Raises:
            ServiceUnavailableError: its storage does not answer.
        """
        builder = make_shadow_builder(self._settings, self._engine)
        builder.check()
        for generation_id in self._generations():
            if again:
                builder.rebuild(generation_id)
            builder.publish_new(generation_id, force=True)
            builder.compact(generation_id, purge=True)
        builder.collect_garbage()

    def verify(self) -> dict[int, list[str]]:
        """Compare every row of the shadow with the database. Return the problems of each generation."""
        builder = make_shadow_builder(self._settings, self._engine)
        builder.check()
        found = {generation_id: builder.verify(generation_id) for generation_id in self._generations()}
        for view in self.status():
            if view.vectors_stored and not view.vectors_indexed:
                found[view.generation_id].append("nothing is in the shadow: run `ramq index shadow build`")
        wrong, right = "`ramq index rebuild`", "`ramq index shadow build --again`"
        return {number: [line.replace(wrong, right) for line in lines] for number, lines in found.items()}

    def traces(self, ids: NDArray[np.int64]) -> list[Trace]:
        """Look for deleted images in the shadow, if there is one; ``ids`` ascending.

        Raises:
            ServiceUnavailableError: it does not answer, so nobody knows.
        """
        if not self.is_set:
            return []
        from storage.index.erasure_check import in_shadow  # noqa: PLC0415  (faiss)

        reader = make_shadow_index(self._settings)
        reader.check()
        with unit_of_work(self._engine) as session:
            return in_shadow(session, reader, ids)

    def drop(self) -> int:
        """Delete everything that the shadow has. Return the number of collections and folders that were deleted."""
        builder = make_shadow_builder(self._settings, self._engine)
        builder.check()
        with unit_of_work(self._engine) as guard:
            for generation_id in indexed(guard, with_dropped=True):
                builder.pointers.lock_builder(guard, generation_id, wait=True)
            dropped = self._drop_collections(repository.system_identifier(guard))
            place = builder.store.place
            for name in place.names(""):
                place.delete(name)
                dropped += name.startswith("generation-")
        return dropped

    def _drop_collections(self, system_identifier: str) -> int:
        ours = as_index(self._settings)
        if not ours.is_index_in_milvus:
            return 0
        from storage.index.milvus.client import Milvus  # noqa: PLC0415
        from storage.index.milvus.reader import SHADOW, collections_of  # noqa: PLC0415

        milvus = Milvus(ours.index_location, setting=SETTING)
        try:
            names = collections_of(milvus, system_identifier, SHADOW)
            for name in names:
                milvus.drop(name)
        finally:
            milvus.close()
        return len(names)

    def _generations(self) -> list[int]:
        with unit_of_work(self._engine) as session:
            return list(indexed(session))


def _comparer(settings: Settings, engine: Engine, search: Callable[[], Search]) -> ShadowComparer:
    """Return what compares searches with the shadow. It does nothing if none is set, or until it runs."""

    def both() -> tuple[Search, Search]:
        reader = make_shadow_index(settings, for_searches=True)
        return search(), search().over(lambda: reader)

    share = 0.0 if settings.shadow_index_url is None else settings.shadow_index_share
    return ShadowComparer(engine, both, lambda: place_of(settings), share=share)


def require(settings: Settings) -> None:
    """Raise ``UsageError`` if no shadow is set."""
    if settings.shadow_index_url is None:
        raise UsageError(
            f"there is no shadow of the index: set {SETTING} to where it is to be, for example "
            "milvus+http://user:password@host:19530/database"
        )


def as_index(settings: Settings) -> Settings:
    """Return the settings in which the shadow's place is that of the index."""
    return settings.model_copy(update={"index_url": settings.shadow_index_url})


def place_of(settings: Settings) -> FileStorage:
    """Return the storage of the shadow's files."""
    from storage.index.file_storage import open_storage  # noqa: PLC0415

    ours = as_index(settings)
    named = files_setting(ours, SETTING)
    return open_storage(ours.index_files_location, "shadow", endpoint_url=settings.s3_endpoint_url, setting=named)


def make_shadow_index(settings: Settings, *, for_searches: bool = False) -> VectorIndex:
    """Return a reader of the shadow.

    Args:
        settings: where the shadow is.
        for_searches: raise ``ShadowUnreadyError``, instead of reading from PostgreSQL, as long as it is not filled.
    """
    from storage.index.index import VectorIndex  # noqa: PLC0415  (faiss)
    from storage.index.pointers import ShadowPointers  # noqa: PLC0415

    require(settings)
    place, cache, ours = place_of(settings), settings.cache_path / "shadow-index", as_index(settings)
    pointers = ShadowPointers(place, for_searches=for_searches)
    limit = MAX_ROWS_BYTES if for_searches else None
    if not ours.is_index_in_milvus:
        return VectorIndex(place, cache, pointers=pointers, max_rows_bytes=limit)
    from storage.index.milvus.client import Milvus  # noqa: PLC0415
    from storage.index.milvus.reader import SHADOW, MilvusIndex  # noqa: PLC0415

    milvus = Milvus(ours.index_location, request_seconds=REQUEST_SECONDS, setting=SETTING)
    return MilvusIndex(milvus, place, cache, family=SHADOW, pointers=pointers, max_rows_bytes=limit)


def make_shadow_builder(settings: Settings, engine: Engine) -> IndexBuilder:
    """Return a builder of the shadow."""
    from storage.index.builder import IndexBuilder  # noqa: PLC0415
    from storage.index.pointers import ShadowPointers  # noqa: PLC0415

    require(settings)
    place, cache, ours = place_of(settings), settings.cache_path / "shadow-index", as_index(settings)
    pointers = ShadowPointers(place)
    if not ours.is_index_in_milvus:
        return IndexBuilder(engine, place, cache, pointers=pointers)
    from storage.index.milvus.builder import MilvusBuilder  # noqa: PLC0415
    from storage.index.milvus.client import Milvus  # noqa: PLC0415
    from storage.index.milvus.reader import SHADOW  # noqa: PLC0415

    return MilvusBuilder(
        Milvus(ours.index_location, setting=SETTING), engine, place, cache, family=SHADOW, pointers=pointers
    )


@contextmanager
def filling_shadow(settings: Settings, engine: Engine) -> Iterator[None]:
    """Keep the shadow up to date while the block runs, in a thread of its own; do nothing if none is set.

    Of several workers, one fills it at a time. What goes wrong is logged and tried again: nothing else depends on it.
    """
    if settings.shadow_index_url is None:
        yield
        return
    builder = make_shadow_builder(settings, engine)
    told: list[str] = []

    def fill() -> bool:
        try:
            builder.check()
            with unit_of_work(engine) as session:
                generations = list(indexed(session))
            for generation_id in generations:
                if builder.publish_new(generation_id) is not None:
                    builder.compact(generation_id)
                    builder.collect_garbage()
            told.clear()
        except (RamqError, OSError) as error:
            if told != [str(error)]:  # it may last
                log.warning("the shadow of the index is not filled", error=str(error))
                told[:] = [str(error)]
        except Exception:  # the next time may do better
            log.exception("the shadow of the index is not filled")
        return True

    with repeated("shadow", FILL_SECONDS, fill):
        yield

"""From settings to services: the one place where the layers are put together."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from storage.database import make_engine, unit_of_work
from storage.errors import RamqError, ServiceUnavailableError
from storage.results import archives, generations
from storage.revision import bring_up_to_date, require_current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

    from ramq.services.archives import ArchiveClient
    from ramq.services.corrections import CorrectionClient
    from ramq.services.erasures import ErasureClient
    from ramq.services.generations import GenerationClient
    from ramq.services.jobs import JobClient
    from ramq.services.originals import Original
    from ramq.services.policies import PolicyClient
    from ramq.services.search import SearchClient
    from ramq.services.vocabularies import VocabularyClient
    from ramq.settings import Settings
    from storage.index.builder import IndexBuilder
    from storage.index.index import VectorIndex
    from storage.results.generation_views import IndexView
    from storage.results.views import ArchiveView, ImageView
    from storage.search.query import Match
    from storage.search.views import Facet, Hit, HitPage, SearchQuery

Made = TypeVar("Made")


class _Once(Generic[Made]):
    """See ``once``."""

    def __init__(self, make: Callable[[Any], Made]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __get__(self, services: Any, _owner: type) -> Made:
        with services._lock:  # noqa: SLF001  (a part of it)
            if self._make.__name__ not in services._made:  # noqa: SLF001
                services._made[self._make.__name__] = self._make(services)  # noqa: SLF001
            return services._made[self._make.__name__]  # type: ignore[no-any-return]  # noqa: SLF001


def once(make: Callable[[Any], Made]) -> _Once[Made]:
    """Make a part of the services when it is first asked for, by whichever thread, and keep it."""
    return _Once(make)


class ArchiveName(NamedTuple):
    """What an archive is called."""

    id: int
    uri: str


class Services:
    """What the command line and the web call. Thread-safe; every method is one transaction.

    Args:
        settings: the effective settings.
        engine: the database, at this version's revision.
        broker_url: where wake-ups go, None without a broker.
        is_reachable: whether other machines can reach whoever uses this.
        search_engine: a standby of the database that is searched in its place; None: the database itself.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        broker_url: str | None,
        *,
        is_reachable: bool,
        search_engine: Engine | None = None,
    ) -> None:
        self.settings = settings
        self.engine = engine
        self.search_engine = search_engine or engine
        self.broker_url = broker_url
        self._is_reachable = is_reachable
        self._lock = threading.RLock()
        self._made: dict[str, Any] = {}
        self._opened_indexes: dict[bool, VectorIndex] = {}

    # Made when it is first asked for: most commands need one of these, and each brings libraries that take a while.

    @once
    def jobs(self) -> JobClient:
        """Jobs, their failures and reports, and workers."""
        from ramq.services.jobs import ClientOptions, JobClient  # noqa: PLC0415

        return JobClient(
            self.engine,
            ClientOptions(
                model=self.settings.model,
                captioner=self.settings.captioner,
                archive_allow=self.settings.archive_allow,
                is_reachable=self._is_reachable,
                s3=self.settings.s3,
                features=self.settings.features,
            ),
        )

    @once
    def generations(self) -> GenerationClient:
        """What made the results."""
        from ramq.services.generations import GenerationClient  # noqa: PLC0415

        return GenerationClient(self.engine, self._index)

    @once
    def vocabularies(self) -> VocabularyClient:
        """Tags of one's own."""
        from ramq.services.vocabularies import VocabularyClient  # noqa: PLC0415

        return VocabularyClient(self.engine)

    @once
    def corrections(self) -> CorrectionClient:
        """What people say of tags."""
        from ramq.services.corrections import CorrectionClient  # noqa: PLC0415

        return CorrectionClient(self.engine, self._searches.of_database)

    @once
    def policies(self) -> PolicyClient:
        """Which tags count in which archive."""
        from ramq.services.policies import PolicyClient  # noqa: PLC0415

        return PolicyClient(self.engine, self._searches.of_database)

    @once
    def erasures(self) -> ErasureClient:
        """Deletions."""
        from ramq.services.erasures import ErasureClient  # noqa: PLC0415

        return ErasureClient(self.engine, self._index, self._searches.thumbnails)

    @once
    def archive_client(self) -> ArchiveClient:
        """Archives, those too that are renamed and removed."""
        from ramq.services.archives import ArchiveClient  # noqa: PLC0415

        return ArchiveClient(
            self.engine,
            self.settings,
            index=self._index,
            erasures=lambda: self.erasures,
            is_reachable=self._is_reachable,
        )

    def _index(self, *, of_standby: bool = False) -> VectorIndex:
        """Return this process's reader of the vector index, opened when it is first needed."""
        with self._lock:
            if of_standby not in self._opened_indexes:
                self._opened_indexes[of_standby] = make_index(self.settings)
            return self._opened_indexes[of_standby]

    # Search and images ----------------------------------------------------------------------------------------------

    @once
    def _searches(self) -> SearchClient:
        from ramq.services.search import SearchClient  # noqa: PLC0415

        return SearchClient(
            self.settings,
            self.engine,
            self.search_engine,
            lambda of_standby: self._index(of_standby=of_standby),
            self._is_reachable,
        )

    def read(self, query: SearchQuery, text: str | None, *, is_strict: bool = False) -> SearchQuery:
        """See ``SearchClient.read``, as of the others below."""
        return self._searches.read(query, text, is_strict=is_strict)

    def search(self, query: SearchQuery) -> HitPage:
        """Return a page of hits, best first."""
        return self._searches.search(query)

    def page_with_facets(self, query: SearchQuery, facets: int) -> tuple[HitPage, list[Facet]]:
        """Return a page of hits and the most frequent tags of all hits."""
        return self._searches.page_with_facets(query, facets)

    def export(self, query: SearchQuery) -> tuple[Match | None, Iterator[Hit]]:
        """Return what all hits were made by, and the hits on all pages."""
        return self._searches.export(query)

    def search_by_image(self, picture: bytes, query: SearchQuery) -> HitPage:
        """Return the images nearest to a picture, and to the query's text if it has one."""
        return self._searches.search_by_image(picture, query)

    def facets(self, query: SearchQuery, limit: int = 50) -> list[Facet]:
        """Count the tags of the images that a search finds, the most frequent first."""
        return self._searches.facets(query, limit)

    def suggest_tags(self, prefix: str, limit: int = 10) -> list[Facet]:
        """Return tags whose name begins with ``prefix``, with how many images have them."""
        return self._searches.suggest_tags(prefix, limit)

    def example_tags(self) -> list[str]:
        """Return three names of tags that the generation in use has."""
        return self._searches.example_tags()

    def image(self, image_id: int) -> ImageView:
        """Return one image."""
        return self._searches.image(image_id)

    def find_image(self, text: str, archive: str | None = None) -> int:
        """Return the id of the image that ``text`` means."""
        return self._searches.find_image(text, archive)

    def thumbnail(self, image_id: int, size: int = 320) -> tuple[bytes, str]:
        """Return a JPEG no larger than ``size`` and its ETag."""
        return self._searches.thumbnail(image_id, size)

    def original(self, image_id: int) -> Original:
        """Return an image's original, to be read in parts."""
        return self._searches.original(image_id)

    # State ---------------------------------------------------------------------------------------------------------

    def archives(self) -> list[ArchiveView]:
        """Return every archive, oldest first."""
        return self.archive_client.list()

    def archive_names(self) -> list[ArchiveName]:
        """Return what every archive is called, oldest first, without counting what is recorded of each."""
        with unit_of_work(self.engine) as session:
            return [ArchiveName(view.id, view.uri) for view in archives.views(session, {})]

    def index_status(self) -> list[IndexView]:
        """Return the state of the vector index of every generation."""
        with unit_of_work(self.engine) as session:
            return [self._index().status(session, view.id) for view in generations.views(session)]

    def ready(self) -> dict[str, str]:
        """Return, for each service that is needed, ``ok`` or what is wrong, in one line."""
        states = {"database": _state(lambda: require_current(self.engine)), "broker": _state(self._check_broker)}
        states["index"] = _state(self.check_index)
        if self.search_engine is not self.engine:
            states["search"] = _state(lambda: require_current(self.search_engine))
        return states

    def check_index(self) -> None:
        """Raise ``ServiceUnavailableError`` where the vector index cannot be asked; the message says why."""
        self._index().check()

    def _check_broker(self) -> None:
        from ramq.broker import check_broker  # noqa: PLC0415  (Redis' client; few commands need it)

        if self.broker_url is None:
            raise ServiceUnavailableError("RAMQ_BROKER_URL is not set")
        check_broker(self.broker_url)


def make_index(settings: Settings) -> VectorIndex:
    """Return this process's reader of the vector index."""
    from storage.index.file_storage import open_storage  # noqa: PLC0415
    from storage.index.index import VectorIndex  # noqa: PLC0415  (faiss takes a while; not every command needs it)

    place = open_storage(settings.index_files_location, endpoint_url=settings.s3_endpoint_url)
    if not settings.is_index_in_milvus:
        return VectorIndex(place, settings.cache_path / "index")
    from storage.index.milvus.client import Milvus  # noqa: PLC0415
    from storage.index.milvus.reader import MilvusIndex  # noqa: PLC0415

    return MilvusIndex(Milvus(settings.index_location), place, settings.cache_path / "index")


def make_builder(settings: Settings, engine: Engine) -> IndexBuilder:
    """Return a builder of the vector index."""
    from storage.index.builder import IndexBuilder  # noqa: PLC0415
    from storage.index.file_storage import open_storage  # noqa: PLC0415

    place = open_storage(settings.index_files_location, endpoint_url=settings.s3_endpoint_url)
    if not settings.is_index_in_milvus:
        return IndexBuilder(engine, place, settings.cache_path / "index")
    from storage.index.milvus.builder import MilvusBuilder  # noqa: PLC0415
    from storage.index.milvus.client import Milvus  # noqa: PLC0415

    return MilvusBuilder(Milvus(settings.index_location), engine, place, settings.cache_path / "index")


@contextmanager
def open_services(settings: Settings, *, is_reachable: bool = False) -> Iterator[Services]:
    """Give services on the database that the settings name, or on the embedded stack while the block lasts.

    Raises:
        ServiceUnavailableError: the database cannot be reached, or the embedded stack cannot be started.
        FatalError: the database is at another revision than this version needs.
    """
    with addresses(settings) as (database_url, broker_url):
        pool_size = 20 if is_reachable else 5
        engine = make_engine(database_url, pool_size=pool_size)
        standby_url = settings.search_database_url
        standby = None if standby_url is None else make_engine(standby_url, pool_size=pool_size)
        try:
            if settings.is_embedded:
                bring_up_to_date(engine)
            else:
                require_current(engine)
            yield Services(settings, engine, broker_url, is_reachable=is_reachable, search_engine=standby)
        finally:
            engine.dispose()
            if standby is not None:
                standby.dispose()


@contextmanager
def addresses(settings: Settings) -> Iterator[tuple[str, str | None]]:
    """Give the URLs of database and broker: those that are set, or the embedded ones while the block lasts."""
    if settings.database_url is not None:
        yield settings.database_url, settings.broker_url
        return
    from ramq.embedded import embedded  # noqa: PLC0415  (not needed where a database is set)

    with embedded(settings.data_dir) as services:
        yield services.database_url, services.broker_url


def _state(check: Any) -> str:
    try:
        check()
    except RamqError as error:
        return str(error)
    return "ok"

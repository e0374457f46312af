"""From settings to services: the one place where the layers are put together."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import redis

from ramq import captions
from ramq.archives import ArchiveClient
from ramq.corrections import CorrectionClient
from ramq.erasures import ErasureClient
from ramq.generations import GenerationClient
from ramq.kit.errors import RamqError, ServiceUnavailableError, UsageError
from ramq.originals import Original
from ramq.policies import PolicyClient
from ramq.query_models import QueryModels
from ramq.thumbnails import Thumbnails
from ramq.vocabularies import VocabularyClient
from storage import query as queries
from storage.database import make_engine, unit_of_work
from storage.language import asking, wanted_tags
from storage.objects.source import open_store, parse_source, require_allowed
from storage.repositories import archives, generations, results
from storage.revision import bring_up_to_date, require_current
from storage.search import Search, between
from storage.views import Facet, Page, SearchQuery
from workers.client import ClientOptions, JobClient

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Engine

    from ramq.settings import Settings
    from storage.index.builder import IndexBuilder
    from storage.index.index import VectorIndex
    from storage.orders import Ranked
    from storage.views import ArchiveView, Hit, ImageView, IndexView

_BROKER_TIMEOUT_SECONDS = 5
_PROBE = "ramq:probe"

EXAMPLES = ("castle", "palace", "daisy")
"""Tags that most vocabularies have, for examples of queries."""


class ArchiveName(NamedTuple):
    """What an archive is called."""

    id: int
    uri: str


class _WithVectors(NamedTuple):
    """A query, the vector (D,) of its text, and vectors (M, D) of some names of tags; None without a text."""

    query: SearchQuery
    text: NDArray[np.float32] | None
    names: NDArray[np.float32] | None


class Services:
    """What the command line and the web call. Thread-safe; every method is one transaction.

    Args:
        settings: the effective settings.
        engine: the database, at this version's revision.
        broker_url: where bells go, None where nothing is rung.
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
        self.jobs = JobClient(
            engine,
            ClientOptions(
                model=settings.model,
                captioner=settings.captioner,
                archive_allow=settings.archive_allow,
                is_reachable=is_reachable,
                s3=settings.s3,
                features=settings.features,
            ),
        )
        self.generations = GenerationClient(engine, self._index)
        self.vocabularies = VocabularyClient(engine)
        self._search = Search(self._index)
        # A standby is behind: a reader of its own, that does not go back and forth between the two.
        self._searched = self._search if search_engine is None else Search(lambda: self._index(of_standby=True))
        self.corrections = CorrectionClient(engine, self._search)
        self.policies = PolicyClient(engine, self._search)
        self._thumbnails = Thumbnails(settings.cache_path / "thumbnails")
        self.erasures = ErasureClient(engine, self._index, self._thumbnails)
        self.archive_client = ArchiveClient(engine, settings, self.erasures, is_reachable=is_reachable)
        self._lock = threading.Lock()
        self._models = QueryModels(settings)
        self._opened_indexes: dict[bool, VectorIndex] = {}

    def _index(self, *, of_standby: bool = False) -> VectorIndex:
        """Return this process's reader of the vector index, opened when it is first needed."""
        with self._lock:
            if of_standby not in self._opened_indexes:
                self._opened_indexes[of_standby] = make_index(self.settings)
            return self._opened_indexes[of_standby]

    # Search --------------------------------------------------------------------------------------------------------

    def read(self, query: SearchQuery, text: str | None, *, is_strict: bool = False) -> SearchQuery:
        """Return ``query``, narrowed further by what a person typed, to be searched for.

        What cannot be read as tags and filters is searched as words, and the query's ``notes`` say so. So are tags
        beside words if no image has them.

        Args:
            query: what is asked for beside the text.
            text: in the query language, or anything else.
            is_strict: whether the text is a program's: what cannot be read is an error then.

        Raises:
            UsageError: ``query`` names what is not there; with ``is_strict`` also ``text``.
        """
        if is_strict:
            return asking(query, text)
        if not text or not text.strip():
            return query
        with unit_of_work(self.search_engine) as session:
            asked = queries.read(session, query, text, self._searched.vocabulary)
            if not asked.text or next(wanted_tags(asked.where), None) is None or self._searched.count(session, asked):
                return asked
            # "We are #1" names tag 1 by accident: words that find something are better than no hits at all.
            as_words = queries.read(session, query, text, self._searched.vocabulary, are_tags_words=True)
            return as_words if self._searched.count(session, as_words) else asked

    def search(self, query: SearchQuery) -> Page[Hit]:
        """Return a page of hits, best first. Raises ``UsageError`` and its kin for what the query names wrongly."""
        query, *vectors = self._with_vectors_of_text(query)
        with unit_of_work(self.search_engine) as session:
            page = self._searched.page(session, query, *vectors)
        return replace(page, items=[captions.as_corrected(hit) for hit in page.items], notes=query.notes)

    def export(self, query: SearchQuery) -> tuple[queries.Match | None, Iterator[Hit]]:
        """Return what all hits were made by, and the hits on all pages, by id, or best first where a vector ranks.

        What was found when it was called, with the content of when it is read; what is deleted until then is left out.
        Memory does not grow with their number. Nothing has made any while nothing was recorded.
        """
        query, *vectors = self._with_vectors_of_text(query)
        with unit_of_work(self.search_engine) as session:
            found = self._searched.everything(session, query, *vectors)
        return (None, iter(())) if found is None else (found[0], self._contents(query, *found))

    def _contents(self, query: SearchQuery, match: queries.Match, found: Iterable[Ranked]) -> Iterator[Hit]:
        left = iter(found)
        while images := list(islice(left, queries.MAX_LIMIT)):
            # A transaction for each, since whoever takes the hits may take their time.
            with unit_of_work(self.search_engine) as session:
                hits = self._searched.hits(session, match, query, images)
            yield from map(captions.as_corrected, hits)

    def _with_vectors_of_text(self, query: SearchQuery) -> _WithVectors:
        """Return the query, the vector of its text, and those of some tags' names, which tell how near is near.

        The query is bound to the generation that they are of: another may serve before the search begins.
        """
        if not query.text:
            return _WithVectors(query, None, None)
        queries.check(query)
        with unit_of_work(self.search_engine) as session:
            generation = queries.generation(session, query)
            if generation is None:
                return _WithVectors(query, None, None)
            vocabulary = self._searched.vocabulary(session, generation.vocabulary_id)
        return _WithVectors(
            replace(query, read_for=generation.id),
            self._models.of_text(generation.model, query.text),
            self._models.of_names(generation.model, vocabulary),
        )

    def search_by_image(self, picture: bytes, query: SearchQuery) -> Page[Hit]:
        """Return the images nearest to a picture, and to the query's text if it has one.

        Raises:
            UsageError: it is no picture; the query wants neighbours of another one as well.
        """
        if query.like is not None:
            raise UsageError("search by a picture or by an image of the archive, not by both")
        with unit_of_work(self.search_engine) as session:
            generation = queries.generation(session, query)
        if generation is None:
            return Page([])
        vector = self._models.of_picture(picture, generation)
        query, text, _ = self._with_vectors_of_text(replace(query, read_for=generation.id))
        if text is not None:
            vector = between(vector, text)
        with unit_of_work(self.search_engine) as session:
            page = self._searched.page(session, replace(query, text=None), vector)
        return replace(page, items=[captions.as_corrected(hit) for hit in page.items], notes=query.notes)

    def facets(self, query: SearchQuery, limit: int = 50) -> list[Facet]:
        """Count the tags of the images that a search finds, the most frequent first."""
        query, *vectors = self._with_vectors_of_text(query)
        with unit_of_work(self.search_engine) as session:
            return self._searched.facets(session, query, limit, *vectors)

    def suggest_tags(self, prefix: str, limit: int = 10) -> list[Facet]:
        """Return tags whose name begins with ``prefix``, with how many images have them."""
        with unit_of_work(self.search_engine) as session:
            return self._searched.suggest(session, prefix, limit)

    def example_tags(self) -> list[str]:
        """Return three names of tags that the generation in use has, for examples of queries."""
        with unit_of_work(self.search_engine) as session:
            generation = generations.default(session)
            names = None if generation is None else self._searched.vocabulary(session, generation.vocabulary_id)
        return list(EXAMPLES) if names is None else names.examples(EXAMPLES)

    # Images --------------------------------------------------------------------------------------------------------

    def image(self, image_id: int) -> ImageView:
        """Return one image. Raises ``NotFoundError``."""
        with unit_of_work(self.engine) as session:
            return captions.as_corrected(self._search.image(session, image_id))

    def find_image(self, text: str, archive: str | None = None) -> int:
        """Return the id of the image that ``text`` means: an id, a key, or a URI.

        Raises:
            UsageError: it means none, or several.
        """
        with unit_of_work(self.engine) as session:
            inside = [archive_id for archive_id, _ in archives.meant(session, archive)] if archive else None
            return results.meant(session, text, inside)

    def thumbnail(self, image_id: int, size: int = 320) -> tuple[bytes, str]:
        """Return a JPEG no larger than ``size`` (rounded up to a kept size) and its ETag.

        Raises:
            NotFoundError: there is no such image.
            PermanentError: its object cannot be fetched or decoded.
        """
        with unit_of_work(self.engine) as session:
            uri, key, version = results.place(session, image_id)

        def make(side: int) -> NDArray[np.uint8]:
            from workers.stages.decode import Shrinking  # noqa: PLC0415  (Pillow; not every verb needs it)

            store = open_store(parse_source(uri), self.settings.s3)
            fetched = store.fetch(key, version, self.settings.max_object_bytes)
            return self._models.decoders().decode(fetched.body, Shrinking(side)).pixels

        return self._thumbnails.get(image_id, version, size, make)

    def original(self, image_id: int) -> Original:
        """Return an image's original, to be read in parts. The archive must be one that may be read here.

        Raises:
            NotFoundError: there is no such image.
            ForbiddenError: the archive is not on the list of those that may be read.
            PermanentError: its object is gone or may not be read.
            StoreUnavailableError: the store does not answer.
        """
        with unit_of_work(self.engine) as session:
            uri, key, _ = results.place(session, image_id)
        source = parse_source(uri)
        require_allowed(source, self.settings.archive_allow, reachable=self._is_reachable)
        return Original(open_store(source, self.settings.s3), key)

    # State ---------------------------------------------------------------------------------------------------------

    def archives(self) -> list[ArchiveView]:
        """Return every archive, oldest first."""
        with unit_of_work(self.engine) as session:
            serving = generations.default(session)
            recorded = {} if serving is None else self._index().archive_counts(session, serving.id)
            return archives.views(session, recorded)

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
        if self.search_engine is not self.engine:
            states["search"] = _state(lambda: require_current(self.search_engine))
        return states

    def _check_broker(self) -> None:
        if self.broker_url is None:
            raise ServiceUnavailableError("RAMQ_BROKER_URL is not set")
        check_broker(self.broker_url)


def make_index(settings: Settings) -> VectorIndex:
    """Return this process's reader of the vector index."""
    from storage.index.index import VectorIndex  # noqa: PLC0415  (faiss takes a while; not every verb needs it)
    from storage.index.places import open_place  # noqa: PLC0415

    place = open_place(settings.index_files_location, endpoint_url=settings.s3_endpoint_url)
    if not settings.is_index_in_milvus:
        return VectorIndex(place, settings.cache_path / "index")
    from storage.index.milvus.client import Milvus  # noqa: PLC0415
    from storage.index.milvus.reader import MilvusIndex  # noqa: PLC0415

    return MilvusIndex(Milvus(settings.index_location), place, settings.cache_path / "index")


def make_builder(settings: Settings, engine: Engine) -> IndexBuilder:
    """Return a builder of the vector index."""
    from storage.index.builder import IndexBuilder  # noqa: PLC0415
    from storage.index.places import open_place  # noqa: PLC0415

    place = open_place(settings.index_files_location, endpoint_url=settings.s3_endpoint_url)
    if not settings.is_index_in_milvus:
        return IndexBuilder(engine, place, settings.cache_path / "index")
    from storage.index.milvus.builder import MilvusBuilder  # noqa: PLC0415
    from storage.index.milvus.client import Milvus  # noqa: PLC0415

    return MilvusBuilder(Milvus(settings.index_location), engine, place, settings.cache_path / "index")


def check_broker(url: str) -> None:
    """Raise ``ServiceUnavailableError`` unless the broker answers and takes what is written to it."""
    try:
        broker_client(url).set(_PROBE, 1, px=1_000)
    except redis.ResponseError as error:  # full, a replica, short of replicas, or its disk is full
        raise ServiceUnavailableError(
            f"the broker refuses writes, so workers hear no bells and look for work only now and then: {error}"
        ) from error
    except redis.RedisError as error:
        raise ServiceUnavailableError(f"the broker cannot be reached: {error}") from error


def broker_client(url: str) -> redis.Redis:
    """Return a client for the broker that bells go through, given its URL as Celery takes it."""
    timeouts: dict[str, Any] = {
        "socket_timeout": _BROKER_TIMEOUT_SECONDS,
        "socket_connect_timeout": _BROKER_TIMEOUT_SECONDS,
    }
    if not url.startswith("redis+socket://"):
        return redis.Redis.from_url(url, **timeouts)
    parts = urlsplit(url)
    number = parse_qs(parts.query).get("virtual_host", ["0"])[0]
    return redis.Redis(unix_socket_path=unquote(parts.path), db=int(number), password=parts.password, **timeouts)


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

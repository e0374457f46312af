"""The wiring: creates the services from the settings. Only this file puts the layers together."""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from ramq.addresses import addresses
from ramq.once import once
from ramq.readiness import states_of
from storage.database import make_engine
from storage.revision import bring_up_to_date, require_current
from storage.standby import Databases, make_standby_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

    from ramq.services.accounts import AccountClient
    from ramq.services.archives import ArchiveClient
    from ramq.services.corrections import CorrectionClient
    from ramq.services.dataset_evaluation import DatasetEvaluationClient
    from ramq.services.dataset_steps import DatasetStepClient
    from ramq.services.datasets import DatasetClient
    from ramq.services.duplicates import DuplicateClient
    from ramq.services.erasures import ErasureClient
    from ramq.services.generations import GenerationClient
    from ramq.services.images import ImageClient
    from ramq.services.index import IndexClient
    from ramq.services.jobs import JobClient
    from ramq.services.keywords import KeywordClient
    from ramq.services.metadata import MetadataClient
    from ramq.services.policies import PolicyClient
    from ramq.services.query_models import QueryModels
    from ramq.services.quotas import QuotaClient
    from ramq.services.readings import ReadingClient
    from ramq.services.regions import RegionClient
    from ramq.services.reviews import ReviewClient
    from ramq.services.search import SearchClient
    from ramq.services.shadow import ShadowClient
    from ramq.services.stages import StageClient
    from ramq.services.teaching import TeachClient
    from ramq.services.thumbnails import Thumbnails
    from ramq.services.training_data import TrainingDataClient
    from ramq.services.trainings import Trainings
    from ramq.services.vocabularies import VocabularyClient
    from ramq.services.watches import WatchClient
    from ramq.settings import Settings
    from storage.index.index import VectorIndex
    from storage.search.search import Search


class Services:
    """The use cases, each created at its first use. Thread-safe.

    Args:
        settings: the effective settings.
        engine: the database, at this version's revision.
        broker_url: the broker for wake-ups, or None without a broker.
        is_reachable: whether other machines can reach this process.
        search_engine: a standby of the database to use for search. None: the database itself.
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
        self.databases = Databases(engine, search_engine, most_behind_seconds=settings.search_behind_seconds)
        self.broker_url = broker_url
        self._is_reachable = is_reachable
        self._lock = threading.RLock()
        self._made: dict[str, Any] = {}

    @property
    def is_reachable(self) -> bool:
        """Whether other machines can reach this process."""
        return self._is_reachable

    @property
    def author(self) -> str:
        """Who says what is said on the command line. The web has ``ramq.web.deps.caller_of``."""
        return self.settings.user

    # These are created at their first use. Most commands need only one, and each loads libraries, which takes a while.

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
                stage_models=self.settings.stage_models,
                models_dir=self.settings.models_path,
            ),
        )

    @once
    def watches(self) -> WatchClient:
        """Archives that are watched."""
        from ramq.services.watches import WatchClient  # noqa: PLC0415

        return WatchClient(self.engine, self.jobs)

    @once
    def stages(self) -> StageClient:
        """Stages beside recognition, such as reading the text in images."""
        from ramq.services.stages import StageClient  # noqa: PLC0415

        models = self.settings.stage_models, self.settings.models_path
        return StageClient(self.engine, self.search, self._search_of_database, *models, self.index.reader)

    @once
    def dataset_steps(self) -> DatasetStepClient:
        """Steps that generate and clean labels of data sets."""
        from ramq.services.dataset_steps import DatasetStepClient, EngineOptions  # noqa: PLC0415

        options = EngineOptions(
            model=self.settings.model,
            captioner=self.settings.captioner,
            features=self.settings.features,
            stage_models=self.settings.stage_models,
            models_dir=self.settings.models_path,
        )
        return DatasetStepClient(self.engine, options)

    @once
    def generations(self) -> GenerationClient:
        """The generations of results."""
        from ramq.services.generations import GenerationClient  # noqa: PLC0415

        return GenerationClient(self.engine, self.index.reader)

    @once
    def trainings(self) -> Trainings:
        """Trainings, as their folders tell of them."""
        from ramq.services.trainings import Trainings  # noqa: PLC0415

        return Trainings(self.settings.training_path)

    @once
    def vocabularies(self) -> VocabularyClient:
        """The users' own vocabularies."""
        from ramq.services.vocabularies import VocabularyClient  # noqa: PLC0415

        return VocabularyClient(self.engine)

    @once
    def teaching(self) -> TeachClient:
        """Teaching of tags on a few pictures. It loads no recogniser, so a server can do it beside its other work."""
        from ramq.services.teaching import TeachClient  # noqa: PLC0415

        return TeachClient(self.engine, self._search_of_database, self.index.reader, self.jobs)

    @once
    def teaching_by_name(self) -> TeachClient:
        """Teaching that also tries the names of new tags: RAM and RAM++ are loaded for it, in this process."""
        from ramq.services.teaching import TeachClient  # noqa: PLC0415
        from ramq.services.teaching_by_name import NameScores  # noqa: PLC0415

        by_name = NameScores(self.settings)
        return TeachClient(self.engine, self._search_of_database, self.index.reader, self.jobs, by_name)

    @once
    def corrections(self) -> CorrectionClient:
        """Manual corrections of tags."""
        from ramq.services.corrections import CorrectionClient  # noqa: PLC0415

        return CorrectionClient(self.engine, self._search_of_database)

    @once
    def duplicates(self) -> DuplicateClient:
        """Groups of images with the same bytes, and of near copies."""
        from ramq.services.duplicates import DuplicateClient  # noqa: PLC0415

        return DuplicateClient(self.databases, self.settings.near)

    @once
    def readings(self) -> ReadingClient:
        """The text in images, and manual corrections of it."""
        from ramq.services.readings import ReadingClient  # noqa: PLC0415

        return ReadingClient(self.databases)

    @once
    def regions(self) -> RegionClient:
        """Where tags are in images, and manual corrections of it."""
        from ramq.services.regions import RegionClient  # noqa: PLC0415

        return RegionClient(self.databases, self._search_of_database)

    @once
    def policies(self) -> PolicyClient:
        """Tag rules."""
        from ramq.services.policies import PolicyClient  # noqa: PLC0415

        return PolicyClient(self.engine, self._search_of_database)

    @once
    def erasures(self) -> ErasureClient:
        """Deletions."""
        from ramq.services.erasures import ErasureClient  # noqa: PLC0415
        from ramq.services.index import make_place  # noqa: PLC0415

        place = make_place(self.settings)
        return ErasureClient(self.engine, self.index.reader, self._thumbnails, place, self.shadow.traces)

    @once
    def archives(self) -> ArchiveClient:
        """Archives: list, rename and remove them."""
        from ramq.services.archives import ArchiveClient  # noqa: PLC0415

        return ArchiveClient(
            self.engine,
            self.settings,
            index=self.index.reader,
            erasures=lambda: self.erasures,
            is_reachable=self._is_reachable,
        )

    @once
    def accounts(self) -> AccountClient:
        """Users and their tokens."""
        from ramq.services.accounts import AccountClient  # noqa: PLC0415

        return AccountClient(self.engine, self.settings.api_tokens)

    @once
    def quotas(self) -> QuotaClient:
        """Quotas and shares of users."""
        from ramq.services.quotas import QuotaClient  # noqa: PLC0415

        names = [entry.partition(":")[0] for entry in self.settings.api_tokens if ":" in entry]
        return QuotaClient(self.engine, lambda: self.accounts, names)

    @once
    def index(self) -> IndexClient:
        """The vector index."""
        from ramq.services.index import IndexClient  # noqa: PLC0415

        return IndexClient(self.databases, self.settings)

    @once
    def search(self) -> SearchClient:
        """Searches."""
        from ramq.services.search import SearchClient  # noqa: PLC0415
        from ramq.services.search_readers import SearchReaders  # noqa: PLC0415

        readers = SearchReaders(self.databases, self._search_of)
        return SearchClient(readers, self._query_models, self.settings.text_space, self.shadow.comparer.offer)

    @once
    def shadow(self) -> ShadowClient:
        """A second index, with which searches are compared."""
        from ramq.services.shadow import ShadowClient  # noqa: PLC0415

        searched = self.databases.standby or self.engine
        return ShadowClient(self.engine, self.settings, searched, lambda: self._search_of(searched))

    @once
    def images(self) -> ImageClient:
        """Single images, their thumbnails and originals."""
        from ramq.services.images import ImageClient  # noqa: PLC0415

        return ImageClient(
            self.engine,
            self.settings,
            self._search_of_database,
            thumbnails=self._thumbnails,
            decoders=self._query_models.decoders,
            is_reachable=self._is_reachable,
        )

    @once
    def metadata(self) -> MetadataClient:
        """What the files of images say."""
        from ramq.services.metadata import MetadataClient  # noqa: PLC0415

        return MetadataClient(self.engine)

    @once
    def keywords(self) -> KeywordClient:
        """Keywords that people give images."""
        from ramq.services.keywords import KeywordClient  # noqa: PLC0415

        return KeywordClient(self.engine, self._search_of_database, lambda: self.search)

    @once
    def reviews(self) -> ReviewClient:
        """What people say of the decisions in data sets."""
        from ramq.services.reviews import ReviewClient  # noqa: PLC0415

        return ReviewClient(self.engine, self._search_of_database, self.images)

    @once
    def training_data(self) -> TrainingDataClient:
        """Recorded images as data of a training."""
        from ramq.services.training_data import TrainingDataClient  # noqa: PLC0415

        return TrainingDataClient(self.engine, self.search, self.images)

    @once
    def dataset_evaluation(self) -> DatasetEvaluationClient:
        """Comparisons of generations on data sets."""
        from ramq.services.dataset_evaluation import DatasetEvaluationClient  # noqa: PLC0415

        return DatasetEvaluationClient(self.engine)

    @once
    def datasets(self) -> DatasetClient:
        """Data sets for training."""
        from ramq.services.datasets import DatasetClient  # noqa: PLC0415
        from storage.objects.source import ArchiveAccess  # noqa: PLC0415

        return DatasetClient(
            self.engine,
            self._search_of_database,
            lambda: self.search,
            ArchiveAccess(self.settings.archive_allow, self._is_reachable, self.settings.s3),
        )

    # Shared by several clients --------------------------------------------------------------------------------------

    @once
    def _query_models(self) -> QueryModels:
        from ramq.services.query_models import QueryModels  # noqa: PLC0415

        return QueryModels(self.settings)

    @once
    def _thumbnails(self) -> Thumbnails:
        from ramq.services.thumbnails import Thumbnails  # noqa: PLC0415

        return Thumbnails(self.settings.cache_path / "thumbnails")

    @once
    def _search_of_database(self) -> Search:
        return _search(self.index.reader)

    @once
    def _search_of_standby(self) -> Search:
        return _search(lambda: self.index.reader(of_standby=True))

    def _search_of(self, engine: Engine) -> Search:
        return self._search_of_database if engine is self.engine else self._search_of_standby

    def ready(self) -> dict[str, str]:
        """Return ``ok`` or a one-line error for each required service."""
        return states_of(self.databases, self.broker_url, self.index.check)


def _search(reader: Callable[[], VectorIndex]) -> Search:
    from ram_core.hierarchy.wordnet import shipped_hierarchy  # noqa: PLC0415  (most commands need no names of tags)
    from storage.search.search import Search  # noqa: PLC0415

    return Search(reader, shipped_hierarchy())


@contextmanager
def open_services(settings: Settings, *, is_reachable: bool = False) -> Iterator[Services]:
    """Provide the services during the block, on the database in the settings or on the embedded stack.

    Raises:
        ServiceUnavailableError: the database cannot be reached, or the embedded stack cannot be started.
        FatalError: the database is not at the revision that this version needs.
    """
    with addresses(settings) as (database_url, broker_url):
        pool_size = 40 if is_reachable else 10
        engine = make_engine(database_url, pool_size=pool_size)
        standby_url = settings.search_database_url
        standby = None if standby_url is None else make_standby_engine(standby_url, pool_size=pool_size)
        try:
            if settings.is_embedded:
                bring_up_to_date(engine)
            else:
                require_current(engine)
            services = Services(settings, engine, broker_url, is_reachable=is_reachable, search_engine=standby)
            # Without a standby, a command waits for its database. A web server does not: ``web.app`` sees to that.
            with nullcontext() if standby is None else services.databases.watched():
                yield services
        finally:
            engine.dispose()
            if standby is not None:
                standby.dispose()

"""Further stages: work on images that are recorded already, such as reading the text in them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ramq.services.jobs import STAGES, priority_named, require_stages
from storage.database import unit_of_work
from storage.errors import ConflictError, UsageError
from storage.index.manifest import generation_folder
from storage.ledger import jobs, listings
from storage.results import archives, crops, generations, images, regions, serving, stages
from storage.results.index_rows import indexed
from storage.search.views import SearchQuery
from storage.tables import Archive
from workers.messages import STAGE_MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from ramq.services.search import SearchClient
    from storage.index.index import VectorIndex
    from storage.ledger.views import JobView
    from storage.results.generation_views import DropReport
    from storage.results.stages import StageGeneration


class StageClient:
    """Stages other than recognition. Thread-safe.

    Args:
        engine: the database.
        search: finds the images to work on.
        models: the model of each stage.
        index: returns this process's reader of the index.
    """

    def __init__(
        self, engine: Engine, search: SearchClient, models: Mapping[str, str], index: Callable[[], VectorIndex]
    ) -> None:
        self._engine = engine
        self._index = index
        self._models = models
        self._search = search

    def start(
        self,
        stage: str,
        asked: SearchQuery,
        *,
        words: str | None = None,
        priority: str = "normal",
        model: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> list[JobView]:
        """Start a stage on recorded images: one job for each archive. Images it has done already are skipped.

        Args:
            stage: its name, for example ``text``.
            asked: which images: the hits of this search now, or, if it only names archives and a prefix, all images
                there that are recorded when the job lists them.
            words: the search as it was typed, to be shown.
            priority: ``low``, ``normal`` or ``high``.
            model: a model of the stage; None: the one in the settings.
            options: what the stage is asked for: see its module in ``workers.stages``.

        Raises:
            UsageError: no such stage, model or priority, or no image is found.
            NotFoundError: the search names something that does not exist.
        """
        require_stages([stage])
        chosen, model = priority_named(priority), model or self._models[stage]
        if model not in STAGE_MODELS[stage]:
            raise UsageError(f"unknown model {model!r} of {stage}; choose one of {', '.join(STAGE_MODELS[stage])}")
        is_whole = replace(asked, archive=None, prefix=None, limit=0, read_for=None) == SearchQuery(limit=0)
        ids = None if is_whole else self._search.image_ids(asked)
        with unit_of_work(self._engine) as session:
            if stage == crops.STAGE and not regions.is_any(session):
                raise UsageError("tags were located in no image yet, so there are no regions: run `ramq locate` first")
            places = self._archives(session, asked, stage) if ids is None else images.by_archive(session, ids)
            started = []
            for (archive_id, prefix), named in places.items():
                archive = session.get_one(Archive, archive_id)
                job_id = jobs.create(
                    session,
                    archive=archive,
                    source=archive.uri,
                    prefix=prefix,
                    model=model,
                    captioner="none",
                    priority=chosen,
                    stage=stage,
                    query=None if ids is None else words or "",
                    options=options,
                )
                if named:
                    listings.name(session, job_id, named)
                started.append(jobs.view(session, job_id))
            if not started:
                raise UsageError("no recorded image matches: search for something else, or run `ramq enqueue SOURCE`")
            return started

    @staticmethod
    def _archives(session: Session, asked: SearchQuery, stage: str) -> dict[tuple[int, str], Sequence[int]]:
        """Return the archives, each with the prefix of its keys, in which the stage could work on images."""
        named = (
            archives.resolve_all(session, asked.archive) if asked.archive else [(i, "") for i in archives.ids(session)]
        )
        below = asked.prefix or ""
        # Both prefixes are of whole keys: the longer one holds, unless they exclude each other.
        places = [(number, max(below, prefix, key=len)) for number, prefix in named if _agree(below, prefix)]
        return {place: () for place in places if stages.is_any_recorded(session, *place, stage)}

    def generations(self) -> list[StageGeneration]:
        """Return the generations of all stages but recognition, and how many images each has done, oldest first."""
        with unit_of_work(self._engine) as session:
            return stages.generations(session)

    def use(self, generation_id: int) -> None:
        """Let search use the results of this generation for its stage. Raises ``NotFoundError``."""
        with unit_of_work(self._engine) as session:
            serving.lock_default(session)
            self._require_further(session, generation_id)
            serving.use(session, generation_id)

    def require(self, generation_id: int) -> None:
        """Raise ``NotFoundError`` or ``ConflictError`` unless this is a generation of a further stage."""
        with unit_of_work(self._engine) as session:
            self._require_further(session, generation_id)

    @staticmethod
    def _require_further(session: Session, generation_id: int) -> None:
        if generations.get(session, generation_id, stage=None).stage not in STAGES:
            raise ConflictError(f"generation {generation_id} is one of recognition: see `ramq generations`")

    def drop(self, generation_id: int) -> DropReport:
        """Erase all results of a generation of a further stage.

        Raises:
            NotFoundError: there is no such generation.
            ConflictError: an open job records with it, or its index is being built.
        """
        with unit_of_work(self._engine) as session:
            serving.lock_default(session)
            self._require_further(session, generation_id)
            has_index = generation_id in indexed(session)
            report = serving.drop(session, generation_id)
        if has_index:  # after the commit: the database is correct without these files, and files that stay are garbage
            self._index().store.place.delete(generation_folder(generation_id))
        return report


def _agree(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)

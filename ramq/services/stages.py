"""Further stages: work on images that are recorded already, such as reading the text in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ramq.services import stage_models, stage_serving
from ramq.services.author import LOCAL
from ramq.services.corrections import every_vocabulary
from ramq.services.job_wishes import STAGES, priority_named, require_stages
from storage.database import unit_of_work
from storage.errors import ConflictError, NotFoundError, UsageError
from storage.index.manifest import generation_folder
from storage.ledger import jobs, listings, rates, workers
from storage.results import archives, assigned, corrections, crops, generations, images, looks, regions, serving, stages
from storage.results.index_rows import indexed
from storage.results.region_corrections import MAX_CHARACTERS
from storage.results.spaces import SPACES, made_by
from storage.search.views import SearchQuery
from storage.tables import RECOGNITION, Archive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from ramq.services.search import SearchClient
    from ramq.services.stage_serving import About
    from storage.index.index import VectorIndex
    from storage.ledger.views import JobView
    from storage.results.generation_views import DropReport
    from storage.results.stages import StageGeneration
    from storage.search.search import Search


_BYTES = 2
"""A number of a vector."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What new jobs of a stage would cost.

    Attributes:
        stage: the stage.
        model: its model.
        images: that the jobs would list.
        done: of these, the images that they would skip, because they have been done already.
        tags: of the stage ``locate``: how many are looked for in an image, on average; None for other stages.
        images_per_second: the rate of earlier jobs of the same generation, or else of the same model with other
            weights or dropped results; None: no shard of one is complete.
        seconds: how long the rest takes at this rate; None if there is none.
        is_alike: whether these earlier jobs asked for the same, such as the same tags.
        vector_size: of spaces: the length of a vector; None for other stages, or if it is not known.
        vector_bytes: what the vectors of the images that are left take in the database, and again in the index.
        lacking: what to do about weights that are neither here nor on a live worker; None: they are.
        unused: what to do so that search uses these results; None: it does.
    """

    stage: str
    model: str
    images: int
    done: int
    tags: float | None
    images_per_second: float | None
    seconds: float | None
    is_alike: bool
    vector_size: int | None = None
    vector_bytes: int | None = None
    lacking: str | None = None
    unused: str | None = None


class _Plan(NamedTuple):
    """New jobs: ``ids`` are the hits of a search (None: whole archives)."""

    model: str
    options: dict[str, Any]
    ids: list[int] | None


class StageClient:
    """Stages other than recognition. Thread-safe.

    Args:
        engine: the database.
        search: finds the images to work on.
        tags: loads the vocabularies.
        models: the model of each stage.
        models_dir: the folder of checkpoints.
        index: returns this process's reader of the index.
    """

    def __init__(
        self,
        engine: Engine,
        search: SearchClient,
        tags: Search,
        models: Mapping[str, str],
        models_dir: Path,
        index: Callable[[], VectorIndex],
    ) -> None:
        self._engine = engine
        self._index = index
        self._models = models
        self._models_dir = models_dir
        self._search = search
        self._tags = tags

    def start(  # noqa: PLR0913  (what a stage may be asked for)
        self,
        stage: str,
        asked: SearchQuery,
        *,
        words: str | None = None,
        priority: str = "normal",
        model: str | None = None,
        options: Mapping[str, Any] | None = None,
        by: str = LOCAL,
    ) -> list[JobView]:
        """Start a stage on recorded images: one job for each archive. Images it has done already are skipped.

        Args:
            stage: its name, for example ``text``.
            asked: which images: the hits of this search now, or, if it only names archives and a prefix, all images
                there that are recorded when the job lists them.
            words: the search as it was typed, to be shown.
            priority: ``low``, ``normal`` or ``high``.
            model: a model of the stage; None: the one in the settings.
            options: what the stage is asked for: see its module in ``workers.stages``. Case and order of tags do not
                matter, and every name of a tag of a vocabulary means this tag.
            by: who starts it.

        Raises:
            UsageError: no such stage, model or priority, a tag is too long, or no image is found.
            NotFoundError: the search names something that does not exist.
        """
        plan = self._plan(stage, asked, model, options)
        chosen = priority_named(priority)
        with unit_of_work(self._engine) as session:
            started = []
            for (archive_id, prefix), named in self._places(session, stage, asked, plan).items():
                archive = session.get_one(Archive, archive_id)
                job_id = jobs.create(
                    session,
                    archive=archive,
                    source=archive.uri,
                    prefix=prefix,
                    model=plan.model,
                    captioner="none",
                    priority=chosen,
                    stage=stage,
                    query=None if plan.ids is None else words or "",
                    options=plan.options,
                    said_by=by,
                )
                if named:
                    listings.name(session, job_id, named)
                started.append(jobs.view(session, job_id))
            return started

    def estimate(
        self,
        stage: str,
        asked: SearchQuery,
        *,
        model: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Estimate:
        """Return what ``start`` would begin and how long it would take, and begin nothing. Raises the same errors."""
        plan = self._plan(stage, asked, model, options)
        with unit_of_work(self._engine) as session:
            generation_id = self._generation_of(session, stage, plan.model)
            found = [
                stages.work(
                    session,
                    stage=stage,
                    generation_id=generation_id,
                    options=plan.options,
                    archive_id=archive_id,
                    prefix=prefix,
                    named=None if plan.ids is None else named,
                )
                for (archive_id, prefix), named in self._places(session, stage, asked, plan).items()
            ]
            like = generation_id or rates.generation_of(session, stage, plan.model, or_dropped=True)
            rate = None if like is None else rates.measured(session, stage, like, plan.options)
            listed, pending = sum(each.images for each in found), sum(each.pending for each in found)
            size = self._vector_size(session, stage, plan.model, generation_id)
            return Estimate(
                stage,
                plan.model,
                listed,
                listed - pending,
                _tags(session, plan.options, [i for each in found for i in each.sample]) if stage == "locate" else None,
                rate.images_per_second if rate else None,
                pending / rate.images_per_second if rate else None,
                is_alike=rate is not None and rate.is_alike,
                vector_size=size,
                vector_bytes=None if size is None else _BYTES * size * pending,
                lacking=stage_models.lacking(stage, plan.model, self._models_dir, workers.views(session)),
                unused=stage_serving.unused(session, stage, generation_id, plan.model),
            )

    def vectors(self, space: str) -> Callable[[Sequence[int]], dict[int, list[float]]]:
        """Return what returns the vectors of images in a space, by their ids: those of the generation in use.

        Args:
            space: one of ``spaces.SPACES``, or ``text`` for the vectors of recognition.

        Raises:
            UsageError: there is no such space.
            NotFoundError: no image has a vector in it.
        """
        if space not in (*SPACES, "text"):
            raise UsageError(f"there is no space {space!r}; choose one of {', '.join((*SPACES, 'text'))}")
        with unit_of_work(self._engine) as session:
            used = generations.default(session, RECOGNITION if space == "text" else space)
        if used is None:
            command = "ramq enqueue SOURCE" if space == "text" else made_by(space)
            raise NotFoundError(f"no image has a vector of the space {space} yet: run `{command}`")

        def of(image_ids: Sequence[int]) -> dict[int, list[float]]:
            with unit_of_work(self._engine) as session:
                found = looks.vectors_of(session, used, image_ids)
            return {image_id: vector.tolist() for image_id, vector in found.items()}

        return of

    def lacking(self, stages: Sequence[str]) -> list[str]:
        """Return what to do about weights of these stages that are neither here nor on a live worker."""
        with unit_of_work(self._engine) as session:
            alive = workers.views(session)
        told = (
            stage_models.lacking(stage, self._models[stage], self._models_dir, alive)
            for stage in stages
            if stage in self._models
        )
        return [each for each in told if each is not None]

    def unused(self, ended: Sequence[JobView]) -> list[str]:
        """Return what to do so that search uses the results of these jobs. Nothing about those that it does use."""
        made = {(job.stage, job.generation_id): job.model for job in ended if job.generation_id is not None}
        with unit_of_work(self._engine) as session:
            told = [stage_serving.unused(session, *which, model) for which, model in made.items()]
        return [each for each in told if each is not None]

    def unused_by(self, stages: Sequence[str]) -> list[str]:
        """Return what to do so that search uses what new jobs of these stages will make, likewise."""
        with unit_of_work(self._engine) as session:
            told = [
                stage_serving.unused(session, stage, self._generation_of(session, stage, model), model)
                for stage, model in self._models.items()
                if stage in stages
            ]
        return [each for each in told if each is not None]

    def _generation_of(self, session: Session, stage: str, model: str) -> int | None:
        """Return the generation of new jobs, as far as it is known here: weights may have been replaced since."""
        weights = stage_models.weights_here(stage, model, self._models_dir)
        return rates.generation_of(session, stage, model, weights)

    def _vector_size(self, session: Session, stage: str, model: str, generation_id: int | None) -> int | None:
        if stage not in SPACES:
            return None
        if generation_id is not None:
            return generations.get(session, generation_id, stage=stage).vector_size
        from ram_core.spaces.files import vector_size  # noqa: PLC0415  (few calls need it)

        return vector_size(model, self._models_dir)

    def _plan(self, stage: str, asked: SearchQuery, model: str | None, options: Mapping[str, Any] | None) -> _Plan:
        require_stages([stage])
        chosen = model or self._models[stage]
        stage_models.require(stage, chosen, self._models_dir)
        with unit_of_work(self._engine) as session:
            stage_models.require_known(stage, chosen, self._models_dir, workers.views(session))
        is_whole = replace(asked, archive=None, prefix=None, limit=0, read_for=None) == SearchQuery(limit=0)
        wanted = self._named(options or {})
        return _Plan(chosen, wanted, None if is_whole else self._search.image_ids(asked))

    def _named(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return normalised options, with tags under the names that results have. Raises ``UsageError``."""
        wanted = _normalised(options)
        if not wanted.get("tags"):
            return wanted
        with unit_of_work(self._engine) as session:
            known = every_vocabulary(session, self._tags)
            return _normalised(wanted | {"tags": [corrections.known_as(known, tag) for tag in wanted["tags"]]})

    def _places(
        self, session: Session, stage: str, asked: SearchQuery, plan: _Plan
    ) -> Mapping[tuple[int, str], Sequence[int]]:
        """Return the archives and prefixes of new jobs, each with the images that it names. Raises ``UsageError``."""
        if stage == crops.STAGE and not regions.is_any(session):
            raise UsageError("tags were located in no image yet, so there are no regions: run `ramq locate` first")
        places = self._archives(session, asked, stage) if plan.ids is None else images.by_archive(session, plan.ids)
        if not places:
            raise UsageError("no recorded image matches: search for something else, or run `ramq enqueue SOURCE`")
        return places

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

    def use(self, generation_id: int) -> str:
        """Let search use the results of this generation for its stage.

        Returns:
            What it uses now, and whether that is of fewer images, in words.

        Raises:
            NotFoundError: there is no such generation.
            ConflictError: search takes the newest result of each image, whatever its generation.
        """
        with unit_of_work(self._engine) as session:
            serving.lock_default(session)
            chosen, others = self._of_its_stage(session, generation_id)
            if chosen.stage == regions.STAGE:
                raise ConflictError(
                    "search takes the newest regions of each image, whatever their generation; `ramq stages drop ID` "
                    "returns to the ones before"
                )
            serving.use(session, generation_id)
            return stage_serving.after_use(chosen, next((one for one in others if one.is_default), None))

    def about_drop(self, generation_id: int) -> About:
        """Return what dropping a generation would do. Raises the errors of ``drop`` about its number."""
        with unit_of_work(self._engine) as session:
            return stage_serving.about_drop(*self._of_its_stage(session, generation_id))

    @staticmethod
    def _of_its_stage(session: Session, generation_id: int) -> tuple[StageGeneration, list[StageGeneration]]:
        """Return a generation of a further stage, and the others of its stage. Raises as ``drop``."""
        stage = generations.get(session, generation_id, stage=None).stage
        if stage not in STAGES:
            raise ConflictError(f"generation {generation_id} is one of recognition: see `ramq generations`")
        every = [each for each in stages.generations(session) if each.stage == stage]
        [chosen] = [each for each in every if each.id == generation_id]
        return chosen, [each for each in every if each.id != generation_id]

    def drop(self, generation_id: int) -> DropReport:
        """Erase all results of a generation of a further stage.

        Raises:
            NotFoundError: there is no such generation.
            ConflictError: an open job records with it, or its index is being built.
        """
        with unit_of_work(self._engine) as session:
            serving.lock_default(session)
            self._of_its_stage(session, generation_id)
            has_index = generation_id in indexed(session)
            report = serving.drop(session, generation_id)
        if has_index:  # after the commit: the database is correct without these files, and files that stay are garbage
            self._index().store.place.delete(generation_folder(generation_id))
        return report


def _agree(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _normalised(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a job in one form. An image is done again only for a job whose options differ.

    Detectors take tags in lower case, and their order does not matter.

    Raises:
        UsageError: a tag has more than ``MAX_CHARACTERS`` characters.
    """
    tags = sorted({" ".join(tag.split()).lower() for tag in options.get("tags", ())} - {""})
    if too_long := next((tag for tag in tags if len(tag) > MAX_CHARACTERS), None):
        raise UsageError(
            f"the tag {too_long[:20]!r}… has {len(too_long)} characters; use at most {MAX_CHARACTERS} for each tag, "
            "and commas between tags"
        )
    return {name: value for name, value in options.items() if name != "tags"} | ({"tags": tags} if tags else {})


def _tags(session: Session, options: Mapping[str, Any], sample: Sequence[int]) -> float:
    """Return how many tags are looked for in an image, on average over these images."""
    if options.get("tags"):
        return len(options["tags"])
    found = assigned.names(session, sample)
    return sum(map(len, found.values())) / max(len(sample), 1)

"""Generations: list and compare them, choose the one that search uses, erase their results."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.errors import ConflictError, NotFoundError, UsageError
from storage.index import condition as conditions
from storage.index.feature_files import folder_of as features_folder
from storage.index.manifest import generation_folder
from storage.index.selection import Selection
from storage.results import archives, generations, serving, tags
from storage.results.generation_views import DropReport, GenerationComparison, GenerationState
from storage.search.comparison import Side, compare

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.index.index import VectorIndex
    from storage.results.generation_views import GenerationView


class GenerationClient:
    """Generations. Thread-safe. Every method is one transaction, except ``forget``.

    Args:
        engine: the database.
        index: returns this process's reader of the index.
    """

    def __init__(self, engine: Engine, index: Callable[[], VectorIndex]) -> None:
        self._engine = engine
        self._index = index

    def list(self) -> list[GenerationState]:
        """Return every generation and how much it has recorded, oldest first."""
        with unit_of_work(self._engine) as session:
            former, jobs = serving.former(session), serving.open_jobs(session)
            return [self._state(session, view, former, jobs) for view in generations.views(session)]

    def use(self, generation_id: int, *, force: bool = False) -> GenerationState:
        """Use a generation for search from now on. The previous one is kept for ``rollback``.

        Args:
            generation_id: the generation.
            force: switch even if it has recorded fewer images than the generation in use.

        Raises:
            NotFoundError: there is no such generation.
            ConflictError: it has recorded fewer images, and ``force`` is not set.
        """
        with unit_of_work(self._engine) as session:
            present = serving.lock_default(session)
            generations.get(session, generation_id)
            if present is not None and not force:
                now, then = self._images(session, present.id), self._images(session, generation_id)
                if then < now:
                    raise ConflictError(
                        f"generation {generation_id} has recorded {then:,} images, but generation {present.id}, which "
                        f"is in use, {now:,}; finish it first, or force the switch"
                    )
            serving.use(session, generation_id)
            return self._one(session, generation_id)

    def rollback(self) -> GenerationState:
        """Use the previous generation for search again, even if it has recorded fewer images.

        Raises:
            ConflictError: there was no other generation in use before, or it was dropped.
        """
        with unit_of_work(self._engine) as session:
            serving.lock_default(session)
            former = serving.former(session)
            if former is None:
                raise ConflictError("no other generation was in use before; choose one with `ramq generations use`")
            serving.use(session, former)
            return self._one(session, former)

    def compare(
        self, a: int, b: int, *, archive: str | None = None, limit: int = 50, samples: int = 5
    ) -> GenerationComparison:
        """Compare two generations tag by tag. Each uses the thresholds of its own vocabulary.

        Args:
            a: the generation to start from.
            b: the generation to compare with it.
            archive: only images of this archive: its URI, a URI below it, or its id.
            limit: maximum number of tags to return.
            samples: maximum number of gained and of lost images to return for each tag.

        Raises:
            NotFoundError: a generation or the archive does not exist.
            UsageError: both generations are the same, or the index is in Milvus.
        """
        if a == b:
            raise UsageError(f"generation {a} cannot be compared with itself; give two generations")
        with unit_of_work(self._engine) as session:
            within = archives.resolve(session, archive) if archive is not None else None
            views = {view.id: view for view in generations.views(session)}
            sides = []
            for generation_id in (a, b):
                generation = generations.get(session, generation_id)
                names = tags.load(session, generation.vocabulary_id)
                index = self._index().view(session, generation_id)
                if index.remote is not None:
                    raise UsageError(
                        "cannot compare generations with an index in Milvus; this needs an index in segments"
                    )
                sides.append(Side(views[generation_id], index.parts, names, within))
            return compare(*sides, limit=limit, samples=samples)

    def drop(self, generation_id: int) -> DropReport:
        """Erase everything that a generation recorded: records, vectors, features and its index.

        Raises:
            NotFoundError: there is no such generation.
            ConflictError: it is in use, an open job records with it, or its index is being built.
        """
        with unit_of_work(self._engine) as session:
            report = serving.drop(session, generation_id)
        self._delete_files(generation_id)
        return report

    def forget(
        self, generation_id: int, *, prefix: str | None = None, archive: str | None = None, sure: bool = False
    ) -> DropReport:
        """Erase the results of a generation, for all images or for some. Keys and manual corrections stay.

        With a prefix or an archive, this takes several transactions. Repeat the call to resume it if interrupted.

        Args:
            generation_id: the generation.
            prefix: only images whose keys start with this. None: any key.
            archive: only images of this archive: its URI, a URI below it, or its id. None: all archives.
            sure: erase them even if the generation is in use.

        Raises:
            NotFoundError: the generation or the archive does not exist, or it has no results there.
            UsageError: the archive is blank, or the prefix is empty.
            ConflictError: an open job records with it, or it is in use and ``sure`` is not set.
        """
        if prefix == "":
            raise UsageError("the prefix is empty; give one, or omit it for all images")
        with unit_of_work(self._engine) as session:
            is_serving = generations.get(session, generation_id).is_default
            archive_id, below = archives.resolve(session, archive) if archive is not None else (None, "")
            if is_serving and not sure:
                inside = [conditions.Below(part) for part in (prefix, below) if part]
                within = [] if archive_id is None else [conditions.InArchive(archive_id)]
                view = self._index().view(session, generation_id)
                gone = len(Selection.of(view, conditions.All((*within, *inside))))
                rest = len(Selection.of(view, None)) - gone
                raise ConflictError(
                    f"generation {generation_id} is in use: search would find {rest:,} images instead of "
                    f"{rest + gone:,} until they are recognised again; confirm to erase the results anyway"
                )
        if archive_id is None and prefix is None:
            with unit_of_work(self._engine) as session:
                report = serving.forget(session, generation_id)
            self._delete_files(generation_id)
            return report
        total = DropReport(generation_id, 0, 0, 0)
        last: int | None = 0
        while last is not None:
            with unit_of_work(self._engine) as session:
                some, last = serving.forget_some(session, generation_id, archive_id, (below, prefix or ""), last)
            total = DropReport(
                generation_id,
                total.records + some.records,
                total.vectors + some.vectors,
                total.features + some.features,
            )
        if not (total.records or total.vectors or total.features):
            raise NotFoundError(f"generation {generation_id} has no results there: nothing was erased")
        return total

    def _delete_files(self, generation_id: int) -> None:
        """Delete the files of a generation whose results were erased.

        Call this after the commit. The database is correct without these files, and files that stay are garbage.
        """
        place = self._index().store.place
        place.delete(generation_folder(generation_id))
        place.delete(features_folder(generation_id))

    def _one(self, session: Session, generation_id: int) -> GenerationState:
        view = next(view for view in generations.views(session) if view.id == generation_id)
        return self._state(session, view, serving.former(session), serving.open_jobs(session))

    def _state(
        self, session: Session, view: GenerationView, former: int | None, jobs: dict[int, int]
    ) -> GenerationState:
        index = self._index().status(session, view.id)
        known = {field.name: getattr(view, field.name) for field in fields(view)}
        return GenerationState(
            **known,
            images=index.vectors_stored,
            open_jobs=jobs.get(view.id, 0),
            is_former=view.id == former,
            index=index,
        )

    def _images(self, session: Session, generation_id: int) -> int:
        return self._index().status(session, generation_id).vectors_stored

"""The builder of an index in Milvus: one collection per generation, brought up to each watermark by upserts.

Rows are upserted, not appended. The watermark in PostgreSQL moves when all of them are written. A crash at any point
leaves rows that searches ignore and that the next builder writes again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from storage.database import unit_of_work
from storage.index.builder import Build, IndexBuilder, Published
from storage.index.garbage import GRACE_SECONDS, collect_garbage
from storage.index.milvus import filters
from storage.index.milvus.client import facts_of
from storage.index.milvus.reader import INDEX, collection_name, collections_of
from storage.results import vectors as repository
from storage.results.index_rows import indexed, source_of
from storage.results.vectors import Window

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.index.file_storage import FileStorage
    from storage.index.milvus.client import Milvus
    from storage.index.pointers import Pointers
    from storage.results.projection import RawRows

_FACTS = ("archive", "job", "modified", "size", "key", "scores", "vector")


class MilvusBuilder(IndexBuilder):
    """Builds and maintains the index. Any number may run, in any number of processes: a lock admits one at a time.

    Args:
        milvus: the connection.
        engine: the database.
        place: storage of the index's other files.
        cache_dir: a local folder.
        min_rows: this many new vectors are published at once.
        max_age_seconds: fewer are published when the last publication is this long ago.
        family: ``reader.INDEX`` or ``reader.SHADOW``.
        pointers: see ``IndexBuilder``.
    """

    def __init__(  # noqa: PLR0913 - settings, each with a default and by name
        self,
        milvus: Milvus,
        engine: Engine,
        place: FileStorage,
        cache_dir: Path,
        *,
        min_rows: int = 20_000,
        max_age_seconds: float = 60.0,
        family: str = INDEX,
        pointers: Pointers = repository,
    ) -> None:
        super().__init__(
            engine, place, cache_dir, min_rows=min_rows, max_age_seconds=max_age_seconds, pointers=pointers
        )
        self.milvus = milvus
        self.family = family
        self._is_checked = False

    def check(self) -> None:
        """Raise ``ServiceUnavailableError`` if Milvus cannot be used. It is asked until it can, and then no more."""
        if not self._is_checked:
            self.milvus.check()
            self._is_checked = True

    def compact(self, generation_id: int, *, purge: bool = False) -> Published | None:
        """Publish erasures and, with ``purge``, have Milvus remove them from its files. Milvus merges by itself."""
        if self._is_in_files(generation_id):
            return super().compact(generation_id, purge=purge)
        if not purge:
            return None
        published = self.publish_new(generation_id, force=True)
        with self._locked(generation_id, wait=True) as build:
            assert build is not None
            if build.pointer.manifest and self.milvus.has(self._name(build)):
                self.milvus.compact(self._name(build))
        return published

    def verify(self, generation_id: int) -> list[str]:
        """Compare every image in the collection with the database. Return the problems, one line each."""
        if self._is_in_files(generation_id):
            return super().verify(generation_id)
        with unit_of_work(self.snapshot_engine) as session:
            source = source_of(session, generation_id)
            size = repository.vector_size(session, generation_id)
            assert size is not None
            pointer = self.pointers.head(session, generation_id).pointer
            if pointer.manifest == 0:
                return []
            identifier = repository.system_identifier(session)
            name = collection_name(identifier, generation_id, pointer.manifest, self.family)
            if not self.milvus.has(name):
                return [f"Milvus has no collection {name}: run `ramq index rebuild`"]
            newest = Window(generation_id, pointer.watermark)
            changed = np.union1d(source.ids(session, newest), source.erased(session, newest))
            published = source.rows(session, Window(generation_id, 0, pointer.watermark), size)
            return self._differences(name, published, changed)

    def collect_garbage(self) -> int:
        """Drop collections that are no longer published. Return how many."""
        with unit_of_work(self.engine) as session:
            found = collections_of(self.milvus, repository.system_identifier(session), self.family)
            in_files = [
                number for number, source in indexed(session, with_dropped=True).items() if source.rows_each > 1
            ]
        dropped = sum(self._drop_garbage(name, *of) for name, of in found.items())
        return dropped + collect_garbage(self.engine, self.store, only=in_files, pointers=self.pointers)

    def _is_in_files(self, generation_id: int) -> bool:
        with unit_of_work(self.engine) as session:
            return source_of(session, generation_id).rows_each > 1

    def _drop_garbage(self, name: str, generation_id: int, number: int) -> bool:
        with unit_of_work(self.engine) as session:
            if not self.pointers.lock_builder(session, generation_id, wait=False):
                return False  # it may be under construction
            if repository.vector_size(session, generation_id) is not None:
                age = self.pointers.published_seconds_ago(session, generation_id)
                if self.pointers.head(session, generation_id).pointer.manifest == number:
                    return False
                if age is not None and age < GRACE_SECONDS:
                    return False  # a search may still read it
            self.milvus.drop(name)
        return True

    def _go_on(self, build: Build) -> Published | None:
        if build.source.rows_each > 1:
            return super()._go_on(build)
        if build.pointer.manifest == 0 or not self.milvus.has(self._name(build)):
            return self._rebuild(build)
        with unit_of_work(self.snapshot_engine) as session:
            watermark = self.pointers.head(session, build.generation_id).xmin
            fresh = Window(build.generation_id, build.pointer.watermark, watermark)
            written = self._write_rows(build, self._name(build), session, fresh)
            self.milvus.delete(self._name(build), build.source.erased(session, fresh).tolist())
        return self._point_at(build, Published(build.generation_id, build.pointer.manifest, watermark, 1, written))

    def _rebuild(self, build: Build) -> Published | None:
        if build.source.rows_each > 1:
            return super()._rebuild(build)
        used = collections_of(self.milvus, build.system_identifier, self.family).values()
        numbers = [number for generation_id, number in used if generation_id == build.generation_id]
        number = max([build.pointer.manifest, *numbers]) + 1
        name = collection_name(build.system_identifier, build.generation_id, number, self.family)
        self.milvus.create(name, build.vector_size)
        watermark = self._new_watermark(build)
        written = 0
        for window in self._slices(build, watermark):
            with unit_of_work(self.snapshot_engine) as session:
                written += self._write_rows(build, name, session, window)
        return self._point_at(build, Published(build.generation_id, number, watermark, 1, written))

    def _write_rows(self, build: Build, collection: str, session: Session, window: Window) -> int:
        units = repository.assigned_units(session, build.generation_id)
        written = 0
        for raw, vectors in build.source.rows(session, window, build.vector_size):
            self._require_lock(build)
            self.milvus.upsert(collection, raw, vectors, units)
            written += len(raw.ids)
        return written

    def _differences(
        self, collection: str, stored: Iterable[tuple[RawRows, NDArray[np.float16]]], changed: NDArray[np.int64]
    ) -> list[str]:
        """Return how a collection differs from the ``stored`` rows (ids ascending), except for images that changed."""
        lacking: list[int] = []
        other: list[int] = []
        ghosts: list[int] = []
        seen = 0
        for raw, vectors in stored:
            last = int(raw.ids[-1])
            shown = self._shown(collection, f"pk < {-seen} and pk >= {-last}")
            for row, image_id in enumerate(raw.ids.tolist()):
                found = shown.pop(image_id, None)
                if found is None:
                    lacking.append(image_id)
                elif not _is_same(found, raw, row, vectors[row]):
                    other.append(image_id)
            ghosts += shown
            seen = last
        ghosts += [-row["pk"] for row in self.milvus.rows(collection, f"pk < {-seen}", ())]
        ghosts = np.setdiff1d(np.array(ghosts, dtype=np.int64), changed).tolist()
        lines = {"lacks": lacking, "differs from the database in": other, "keeps deleted rows of": ghosts}
        return [
            f"{collection} {what} {len(ids)} images, for example image {min(ids)}: run `ramq index rebuild`"
            for what, ids in lines.items()
            if ids
        ]

    def _name(self, build: Build) -> str:
        return collection_name(build.system_identifier, build.generation_id, build.pointer.manifest, self.family)

    def _shown(self, collection: str, filter_: str) -> dict[int, dict[str, object]]:
        return {-row["pk"]: row for row in self.milvus.rows(collection, filters.both(filter_), _FACTS)}


def _is_same(found: dict[str, object], raw: RawRows, row: int, vector: NDArray[np.float16]) -> bool:
    facts = facts_of(raw, row)
    is_near = np.array_equal(np.asarray(found["vector"], dtype=np.float32), vector.astype(np.float32))
    return is_near and all(found[name] == value for name, value in facts.items())

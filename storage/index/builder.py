"""The builder: turns committed vectors into published segments, one builder per generation at a time.

To publish: write and check the new segment, write the manifest, and record its number in PostgreSQL. That transaction
fails if a later builder has begun. Before the commit nothing refers to the new files, after it nothing refers to the
old ones. Therefore a crash at any point leaves the last published state and some files to collect.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from storage.database import unit_of_work
from storage.errors import ServiceUnavailableError
from storage.index.ann import FLAT_ROWS, with_lists
from storage.index.compaction import plan
from storage.index.garbage import collect_garbage
from storage.index.manifest import DamagedError, Manifest, SegmentEntry, generation_folder
from storage.index.part import build_part
from storage.index.segment import write
from storage.index.store import SegmentStore
from storage.index.verification import problems
from storage.results import restamping
from storage.results import vectors as repository
from storage.results.index_rows import source_of
from storage.results.vectors import Window

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.index.file_storage import FileStorage
    from storage.index.part import Part
    from storage.index.pointers import Pointers
    from storage.results.index_rows import RowSource

log = logging.getLogger(__name__)

MAX_SEGMENT_ROWS = 2_000_000
"""Segments are not merged beyond this size: they are built in memory. A million vectors of 512 take up to 3 GB."""

RESTAMP_ROWS = 200_000


@dataclass(frozen=True, slots=True)
class Published:
    """The result of a publication. ``new_rows`` counts the rows of the segments that were written for it."""

    generation_id: int
    manifest: int
    watermark: int
    segments: int
    new_rows: int


@dataclass(frozen=True, slots=True)
class Build:
    """The right to publish the next manifest of a generation, until a later epoch begins.

    Attributes:
        guard: a session whose transaction holds the builders' lock.
        source: the rows of the generation, in the database.
    """

    guard: Session
    generation_id: int
    source: RowSource
    epoch: int
    vector_size: int
    system_identifier: str
    pointer: repository.Pointer


class IndexBuilder:
    """Builds and maintains the index. Any number may run, in any number of processes: a lock admits one at a time.

    Args:
        engine: the database.
        place: where segments are published.
        cache_dir: a local folder; readers on the same machine may share it.
        min_rows: this many new vectors are published at once.
        max_age_seconds: fewer vectors are published when the last publication is this long ago.
        max_segment_rows: segments are not merged beyond this size.
        flat_rows: segments with more rows get lists, which say which rows to scan.
        pointers: where it is kept what is published; default: PostgreSQL.
    """

    def __init__(  # noqa: PLR0913 - settings, each with a default and by name
        self,
        engine: Engine,
        place: FileStorage,
        cache_dir: Path,
        *,
        min_rows: int = 20_000,
        max_age_seconds: float = 60.0,
        max_segment_rows: int = MAX_SEGMENT_ROWS,
        flat_rows: int = FLAT_ROWS,
        pointers: Pointers = repository,
    ) -> None:
        self.engine = engine
        # Read at one snapshot: the rows, their predecessors and the erasures must match.
        self.snapshot_engine = engine.execution_options(isolation_level="REPEATABLE READ")
        self.store = SegmentStore(place, cache_dir)
        self.min_rows, self.max_age_seconds, self.pointers = min_rows, max_age_seconds, pointers
        self.max_segment_rows, self.flat_rows = max_segment_rows, flat_rows
        self._seen_usable: dict[int, int] = {}

    def check(self) -> None:
        """Raise ``ServiceUnavailableError`` if the server that keeps the index cannot be used. Files have none."""

    def publish_new(self, generation_id: int, *, force: bool = False) -> Published | None:
        """Publish what was committed since the last manifest: if it is enough, or old enough, or with ``force``.

        An index that cannot be read, or that belongs to another database, is rebuilt from the database.

        Returns:
            None if there was nothing to do, or if another builder holds the lock.

        Raises:
            NotFoundError: there is no such generation.
            ServiceUnavailableError: the storage or the database does not answer, or the disk is full.
        """
        with unit_of_work(self.engine) as session:
            if not self._is_due(session, generation_id, force=force):
                return None
        with self._locked(generation_id, wait=False) as build:
            return self._go_on(build) if build else None

    def compact(self, generation_id: int, *, purge: bool = False) -> Published | None:
        """Merge small segments. Write damaged or mostly dead segments again from the database.

        Args:
            generation_id: whose index.
            purge: remove every trace of erased images from the segments, and wait for the lock.

        Returns:
            None if there was nothing to do, or if another builder holds the lock.
        """
        if purge:
            self.publish_new(generation_id, force=True)  # marks the erased images as dead rows
        with self._locked(generation_id, wait=purge) as build:
            if build is None or build.pointer.manifest == 0:
                return None
            base = self._base(build)
            if base is None:
                return self._rebuild(build)
            damaged = {entry.name for entry in base.segments if not self._is_readable(build, entry)}
            runs = plan(base.segments, max_rows=self.max_segment_rows, damaged=damaged, purge=purge)
            if not runs:
                return None
            return self._publish(build, base.watermark, self._merged(build, base, runs), base)

    def rebuild(self, generation_id: int) -> Published | None:
        """Rebuild the whole index from the database alone. Wait for the lock. None: a later builder published first."""
        with self._locked(generation_id, wait=True) as build:
            return self._rebuild(build) if build else None

    def verify(self, generation_id: int) -> list[str]:
        """Read every byte of the index and compare its ids with the database. Return the problems, one line each."""
        with unit_of_work(self.snapshot_engine) as session:
            return problems(session, self.store, generation_id, self.pointers)

    def look_again(self) -> None:
        """Forget which files could be read: they may have been damaged or deleted since."""
        self._seen_usable.clear()
        self.store.close()

    def collect_garbage(self) -> int:
        """Delete files that no recent manifest refers to. Return the number of deleted names."""
        return collect_garbage(self.engine, self.store, pointers=self.pointers)

    def _is_due(self, session: Session, generation_id: int, *, force: bool) -> bool:
        head = self.pointers.head(session, generation_id)
        if not self._is_usable(session, generation_id, head.pointer):
            return True
        fresh = Window(generation_id, head.pointer.watermark, head.xmin)
        source = source_of(session, generation_id)
        rows = source.count(session, fresh)
        if rows == 0 and len(source.erased(session, fresh)) == 0:
            return False
        age = self.pointers.published_seconds_ago(session, generation_id)
        return force or rows >= self.min_rows or age is None or age >= self.max_age_seconds

    def _is_usable(self, session: Session, generation_id: int, pointer: repository.Pointer) -> bool:
        """Return whether segments can be added to the published manifest. One that passed is not read again."""
        if pointer.manifest in (0, self._seen_usable.get(generation_id)):
            return True
        try:
            manifest = self.store.manifest(generation_id, pointer.manifest)
        except DamagedError:
            return False
        if manifest.system_identifier != repository.system_identifier(session):
            return False
        self._seen_usable[generation_id] = pointer.manifest
        return True

    @contextmanager
    def _locked(self, generation_id: int, *, wait: bool) -> Iterator[Build | None]:
        """Become the builder of a generation, or yield None if another one is.

        The lock keeps builders from doing the same work twice. If the lock's connection breaks, the epoch keeps them
        from overwriting each other.
        """
        with unit_of_work(self.engine) as guard:
            if not self.pointers.lock_builder(guard, generation_id, wait=wait):
                yield None
                return
            with unit_of_work(self.engine) as session:
                source = source_of(session, generation_id)
                size = repository.vector_size(session, generation_id)
                assert size is not None
                epoch = self.pointers.begin_epoch(session, generation_id)
                pointer = self.pointers.head(session, generation_id).pointer
                identifier = repository.system_identifier(session)
            yield Build(guard, generation_id, source, epoch, size, identifier, pointer)

    def _require_lock(self, build: Build) -> None:
        """Raise if another builder took over. This statement also keeps the lock's transaction alive."""
        if self.pointers.epoch(build.guard, build.generation_id) != build.epoch:
            raise ServiceUnavailableError("another index builder took over: nothing to do, it continues the work")

    def _base(self, build: Build) -> Manifest | None:
        """Return the published manifest, an empty one if there is none, or None if nothing can be added to it."""
        if build.pointer.manifest == 0:
            return Manifest(build.generation_id, 0, 0, build.system_identifier, build.vector_size, ())
        try:
            base = self.store.manifest(build.generation_id, build.pointer.manifest)
        except DamagedError as error:
            log.warning("the index is built again from the database", extra={"reason": str(error)})
            return None
        if base.system_identifier != build.system_identifier:
            log.warning("the index is built again: the database was restored from a dump")
            return None
        return base

    def _go_on(self, build: Build) -> Published | None:
        """Publish the rows that are newer than the published manifest. The first time, these may be any number."""
        base = self._base(build)
        return self._rebuild(build) if base is None or base.number == 0 else self._extend(build, base)

    def _extend(self, build: Build, base: Manifest) -> Published | None:
        with unit_of_work(self.snapshot_engine) as session:
            watermark = self.pointers.head(session, build.generation_id).xmin
            fresh = Window(build.generation_id, base.watermark, watermark)
            part = _read(session, build, fresh)
            erased = build.source.erased(session, fresh)
        changed = np.union1d(part.rows.ids, erased)
        entries = [self._with_dead(build, entry, changed) for entry in base.segments]
        if len(part.rows):
            entries.append(self._write(build, fresh, part))
        return self._publish(build, watermark, [entry for entry in entries if entry is not None], base)

    def _rebuild(self, build: Build) -> Published | None:
        watermark = self._new_watermark(build)
        entries = [self._from_database(build, window) for window in self._slices(build, watermark)]
        return self._publish(build, watermark, [entry for entry in entries if entry is not None], None)

    def _new_watermark(self, build: Build) -> int:
        """Return the watermark for an index built from the database alone. Re-stamp rows with later transaction ids."""
        restamping.stamp_again(self.engine)
        stamped = RESTAMP_ROWS
        while stamped == RESTAMP_ROWS:
            self._require_lock(build)
            with unit_of_work(self.engine) as session:
                stamped = build.source.stamp_again(session, build.generation_id, RESTAMP_ROWS)
        with unit_of_work(self.engine) as session:
            return self.pointers.head(session, build.generation_id).xmin

    def _slices(self, build: Build, watermark: int) -> Iterator[Window]:
        """Yield windows of about ``max_segment_rows`` rows up to a watermark."""
        lo = 0
        while lo < watermark:
            with unit_of_work(self.engine) as session:
                rest = Window(build.generation_id, lo, watermark)
                hi = build.source.end_of_slice(session, rest, self.max_segment_rows)
            yield Window(build.generation_id, lo, hi)
            lo = hi

    def _merged(self, build: Build, base: Manifest, runs: list[range]) -> list[SegmentEntry]:
        starts = {run.start: run for run in runs}
        replaced = {position for run in runs for position in run}
        entries = []
        for position, entry in enumerate(base.segments):
            if position in starts:
                last = base.segments[starts[position].stop - 1]
                merged = self._from_database(build, Window(build.generation_id, entry.lo, last.hi))
                if merged is not None:
                    entries.append(merged)
            elif position not in replaced:
                entries.append(entry)
        return entries

    def _with_dead(self, build: Build, entry: SegmentEntry, changed: NDArray[np.int64]) -> SegmentEntry | None:
        """Return a segment's entry in which the changed images are marked dead.

        A segment that cannot be read is written again. Return None if no row of it is left.
        """
        self._require_lock(build)
        try:
            segment = self.store.segment(build.generation_id, entry.name)
            dead = self.store.dead(build.generation_id, entry)
        except DamagedError as error:
            log.warning("a segment of the index is written again from the database", extra={"reason": str(error)})
            return self._from_database(build, Window(build.generation_id, entry.lo, entry.hi))
        more = np.union1d(dead, segment.rows.ids[segment.rows_of(changed)])
        if len(more) == len(dead):
            return entry
        if len(more) == entry.rows:
            return None
        name = self.store.write_dead(build.generation_id, more)
        return replace(entry, dead=name, dead_rows=len(more))

    def _from_database(self, build: Build, window: Window) -> SegmentEntry | None:
        """Write a segment of the rows that a window holds now. Return None if there are none.

        Rows that left the window since the watermark are newer than it: searches find them in the delta.
        """
        with unit_of_work(self.snapshot_engine) as session:
            part = _read(session, build, window)
        return self._write(build, window, part) if len(part.rows) else None

    def _write(self, build: Build, window: Window, part: Part) -> SegmentEntry:
        assert window.hi is not None
        self._require_lock(build)
        part = replace(part, vectors=with_lists(part.vectors, flat_rows=self.flat_rows))
        folder = generation_folder(build.generation_id)
        place = self.store.place
        with place.staging(folder) as staged:
            try:
                name = write(part, staged, generation_id=build.generation_id, lo=window.lo, hi=window.hi)
                size_bytes = sum(file.stat().st_size for file in staged.iterdir())
                if not self._is_sound(build, name):
                    place.add(staged, f"{folder}/{name}")
            except DamagedError as error:
                raise ServiceUnavailableError(f"a new segment reads back wrong: check the disk ({error})") from error
        tuning = part.vectors.tuning
        recall = None if tuning is None else tuning.recall
        return SegmentEntry(name, window.lo, window.hi, len(part.rows), size_bytes, recall=recall)

    def _publish(
        self, build: Build, watermark: int, entries: list[SegmentEntry], base: Manifest | None
    ) -> Published | None:
        number = self._next_number(build)
        while not self.store.write_manifest(
            Manifest(build.generation_id, number, watermark, build.system_identifier, build.vector_size, tuple(entries))
        ):
            number += 1
        known = {entry.name for entry in base.segments} if base else set()
        new_rows = sum(entry.rows for entry in entries if entry.name not in known)
        return self._point_at(build, Published(build.generation_id, number, watermark, len(entries), new_rows))

    def _point_at(self, build: Build, published: Published) -> Published | None:
        """Make searches read what was published. Return None if another builder took over."""
        with unit_of_work(self.engine) as session:
            is_current = self.pointers.publish(
                session,
                build.generation_id,
                epoch=build.epoch,
                manifest=published.manifest,
                watermark=published.watermark,
            )
        if not is_current:
            log.warning("another builder took over", extra={"generation_id": build.generation_id})
            return None
        return published

    def _next_number(self, build: Build) -> int:
        """Return an unused manifest number: one that was not used before the database was restored from a backup."""
        names = self.store.place.names(generation_folder(build.generation_id))
        used = [int(name.removeprefix("manifest-").removesuffix(".json")) for name in names if "manifest-" in name]
        return max([build.pointer.manifest, *used]) + 1

    def _is_readable(self, build: Build, entry: SegmentEntry) -> bool:
        self._require_lock(build)
        with suppress(DamagedError):
            self.store.segment(build.generation_id, entry.name)
            self.store.dead(build.generation_id, entry)
            return True
        return False

    def _is_sound(self, build: Build, name: str) -> bool:
        with suppress(DamagedError):
            self.store.check(build.generation_id, name)
            return True
        return False


def _read(session: Session, build: Build, window: Window) -> Part:
    units = repository.assigned_units(session, build.generation_id)
    rows = build.source.rows(session, window, build.vector_size)
    return build_part(rows, build.vector_size, units, with_bitmaps=True)

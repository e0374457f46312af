"""The reader: all rows of a generation, in published segments and committed since.

The rows are images, or regions of them: see ``results.index_rows``.

A view sees what its transaction sees. One query to PostgreSQL returns the session's snapshot and the published
manifest. If neither changed since the last search, nothing else is read. Rows of an unreadable segment, and all rows
while nothing is published, are read from PostgreSQL. They are searched just as exactly.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from storage.errors import RamqError, ServiceUnavailableError
from storage.index import delta
from storage.index.condition import InArchive
from storage.index.manifest import DamagedError
from storage.index.part import build_part
from storage.index.status import index_status
from storage.index.store import SegmentStore
from storage.remembered import read_only
from storage.results import archives
from storage.results import vectors as repository
from storage.results.index_rows import source_of
from storage.results.packing import CODE
from storage.results.vectors import FORGOTTEN, Window

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.index.file_storage import FileStorage
    from storage.index.manifest import Manifest
    from storage.index.part import Part
    from storage.index.pointers import Pointers
    from storage.index.remote import RemoteRows
    from storage.results.generation_views import IndexView
    from storage.results.index_rows import RowSource
    from storage.results.vectors import Head, Pointer

log = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""How long rows of an unreadable segment are served from PostgreSQL before the segment is tried again."""

MAX_ROWS_BYTES = 4 * 1024**3
"""Limit of the memory that a process uses for rows missing in the segments, which it reads from PostgreSQL."""

FOLLOW_SECONDS = 60.0
"""How long after the last search of a generation its new publications are opened beforehand."""

FOLLOWED_SECONDS = 30.0
"""How long after a generation was last followed its searches leave publications to ``VectorIndex.follow``."""

NEAR_ROWS = 5_000
"""A search reads at most so many newer rows from PostgreSQL rather than open segments that have them."""

NEWER_ROWS = 50_000
"""A view keeps at most so many newer rows in memory rather than open segments that have them. The builder publishes
fewer at once."""

_NEVER = 2**62
"""A transaction that will not be reached."""

COLUMNS_BYTES = 300
"""Approximate memory of a row's columns, without its vector."""


@dataclass(frozen=True, slots=True)
class View:
    """Every image of a generation at one snapshot; immutable.

    Attributes:
        generation_id: whose images.
        source: its rows, in the database.
        vector_size: numbers per vector.
        segments: the published rows, oldest first; including those that had to be read from PostgreSQL.
        newer: the newer rows, in memory.
        damaged: what could not be read, one line each.
        remote: published rows outside of segments; None: there are none.
        epoch: of the index, see ``Head``.
    """

    generation_id: int
    source: RowSource
    vector_size: int
    assigned_units: NDArray[np.int32]
    pointer: Pointer
    snapshot: str
    segments: tuple[Part, ...]
    newer: tuple[Part, ...]
    damaged: tuple[str, ...]
    opened_at: float
    remote: RemoteRows | None = None
    epoch: int = 0

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts in memory. Each image has one live row, in one of them or in ``remote``."""
        return self.segments + self.newer

    @property
    def is_to_be_opened_again(self) -> bool:
        """Whether to try unreadable segments again."""
        return bool(self.damaged) and time.monotonic() - self.opened_at > RETRY_SECONDS


@dataclass(frozen=True, slots=True)
class Base:
    """The published rows of a generation.

    Attributes:
        watermark: rows of earlier transactions are published.
        segments: the segments that could be opened.
        missing: segments whose rows have to be read from PostgreSQL.
        damaged: the reasons, one line each.
        remote: published rows outside of segments.
    """

    watermark: int = 0
    segments: tuple[Part, ...] = ()
    missing: tuple[Window, ...] = ()
    damaged: tuple[str, ...] = ()
    remote: RemoteRows | None = None


@dataclass(slots=True)
class _Generation:
    id: int
    lock: Lock = field(default_factory=Lock)
    view: View | None = None
    searched_at: float = 0.0
    followed_at: float = -FOLLOWED_SECONDS
    """When ``VectorIndex.follow`` last did its work here, or found nothing to do."""


class VectorIndex:
    """Shows the images of any generation. One per process; thread-safe.

    Args:
        place: where segments are published.
        cache_dir: a local folder for copies of remote segments and for notes of passed checks.
        pointers: where it is kept what is published; default: PostgreSQL.
        max_rows_bytes: limit of the memory for rows missing in what is published; default: ``MAX_ROWS_BYTES``.
    """

    def __init__(
        self,
        place: FileStorage,
        cache_dir: Path,
        *,
        pointers: Pointers = repository,
        max_rows_bytes: int | None = None,
    ) -> None:
        self.store = SegmentStore(place, cache_dir)
        self.pointers = pointers
        self._max_rows_bytes = max_rows_bytes
        self._generations: dict[int, _Generation] = {}
        self._lock = Lock()

    def check(self) -> None:
        """Raise ``ServiceUnavailableError`` if the index cannot be used. The message says why."""
        self.store.place.names("")

    def view(self, session: Session, generation_id: int) -> View:
        """Return all images of a generation, as the session's transaction sees them.

        Raises:
            NotFoundError: there is no such generation.
            ServiceUnavailableError: too much of the index is missing to be served from the database.
        """
        # This also takes the session's connection from the pool. Waiting for one while holding the lock could deadlock,
        # if the threads that have the connections wait for the lock.
        head = self.pointers.head(session, generation_id)
        if head.is_private:
            return self._open(session, generation_id, head)
        generation = self._generation(generation_id)
        if self.store.close_changed():
            for each in list(self._generations.values()):
                each.view = None
        generation.searched_at = time.monotonic()
        is_followed = generation.searched_at - generation.followed_at < FOLLOWED_SECONDS
        return self._current(session, generation, head, may_wait=is_followed)

    def follow(self, engine: Engine) -> None:
        """Open what was published since the last search, beside the view that searches use, and then exchange the two.

        New segments are checked and mapped here, so that no search has to wait for that. Generations that were not
        searched for a while are left alone. What fails is left to the next searches, which say why.
        """
        for generation in list(self._generations.values()):
            try:
                self._follow(engine, generation)
            except RamqError as error:
                log.warning("a published index was not opened beforehand", extra={"reason": str(error)})
            except Exception:  # the next generation, and the next time, may do better
                log.exception("a published index was not opened beforehand")
            else:
                generation.followed_at = time.monotonic()

    def _follow(self, engine: Engine, generation: _Generation) -> None:
        known = generation.view
        if known is None or time.monotonic() - generation.searched_at > FOLLOW_SECONDS:
            return
        # No transaction is open while segments are downloaded.
        with read_only(engine) as session:
            head = self.pointers.head(session, generation.id)
            if not _continues(known, head):
                self._current(session, generation, head, may_wait=True)
                return
            opened = self._open(session, generation.id, head)
            with generation.lock:
                # Unless a search was faster, or what is published was forgotten meanwhile.
                if generation.view is not None and _continues(generation.view, head):
                    generation.view = opened

    def _current(self, session: Session, generation: _Generation, head: Head, *, may_wait: bool) -> View:
        view = generation.view
        if view is not None and _is_current(view, head):
            return view
        with generation.lock:
            # An older snapshot than the view's, taken before the wait, must not replace the view.
            head = self.pointers.head_now(session, generation.id)
            view = generation.view
            if view is not None and may_wait and _continues(view, head) and _is_near(session, view):
                view = self._advance(session, view, head)  # ``follow`` opens the rest
            elif view is None or _is_replaced(view, head) or view.is_to_be_opened_again:
                view = self._open(session, generation.id, head)
            elif view.snapshot != head.snapshot or not head.is_exact:
                view = self._advance(session, view, head)
            generation.view = view
            return view

    def vector_of(self, session: Session, generation_id: int, image_id: int) -> NDArray[np.float32] | None:
        """Return the vector of an image as (D,); None if it has none."""
        return repository.vector_of(session, generation_id, image_id)

    def status(self, session: Session, generation_id: int) -> IndexView:
        """Compare the published index with the database. Raises ``NotFoundError``."""
        return index_status(session, self.store, generation_id, self.pointers)

    def archive_counts(self, session: Session, generation_id: int) -> Counter[int]:
        """Return how many images of each archive the generation has. Raises as ``view``."""
        counts: Counter[int] = Counter()
        view = self.view(session, generation_id)
        for part in view.parts:
            counts.update(part.archive_counts())
        if view.remote is not None:
            for archive_id in archives.ids(session):
                counts[archive_id] += len(view.remote.select(InArchive(archive_id)))
        return counts

    def damaged(self, generation_id: int) -> tuple[str, ...]:
        """Return what the last search could not read and served from PostgreSQL, one line each."""
        view = self._generation(generation_id).view
        return () if view is None else view.damaged

    def _generation(self, generation_id: int) -> _Generation:
        with self._lock:
            return self._generations.setdefault(generation_id, _Generation(generation_id))

    def _open(self, session: Session, generation_id: int, head: Head) -> View:
        """Combine the published segments with the rows that only PostgreSQL has."""
        source = source_of(session, generation_id)
        size = repository.vector_size(session, generation_id)
        assert size is not None
        units = repository.assigned_units(session, generation_id)
        base = self._base(session, generation_id, head, units)
        newest = Window(generation_id, base.watermark)
        windows = [*base.missing, newest]
        self._require_room(generation_id, sum(source.count(session, window) for window in windows), size)
        read = (build_part(source.rows(session, window, size), size, units) for window in base.missing)
        segments = (*base.segments, *read)
        recent = build_part(source.rows(session, newest, size), size, units)
        # Read this last: images erased while the rows were read must not remain.
        gone = source.erased(session, newest)
        if base.damaged:
            log.warning(
                "parts of the index cannot be read and are served from the database; if they are damaged, "
                "run `ramq index rebuild`",
                extra={"generation_id": generation_id, "damaged": base.damaged},
            )
        changed = np.union1d(recent.rows.ids, gone)
        return View(
            generation_id,
            source,
            size,
            units,
            head.pointer,
            head.snapshot,
            delta.without(segments, changed),
            delta.appended((), recent.without(gone)),
            base.damaged,
            time.monotonic(),
            base.remote and base.remote.without(changed),
            head.epoch,
        )

    def _base(self, session: Session, generation_id: int, head: Head, units: NDArray[np.int32]) -> Base:  # noqa: ARG002 - units are for those who keep tags elsewhere
        """Return what is published, as far as it can be read."""
        manifest, damaged = self._manifest(session, generation_id, head.pointer)
        segments: list[Part] = []
        missing: list[Window] = []
        for entry in manifest.segments if manifest else ():
            try:
                segment = self.store.segment(generation_id, entry.name)
                segments.append(segment.without(self.store.dead(generation_id, entry)))
            except (DamagedError, ServiceUnavailableError) as error:
                damaged.append(str(error))
                missing.append(Window(generation_id, entry.lo, entry.hi))
        if manifest is not None and not head.is_private:
            self.store.keep_open(generation_id, {entry.name for entry in manifest.segments})
        watermark = manifest.watermark if manifest else 0
        return Base(watermark, tuple(segments), tuple(missing), tuple(damaged))

    def _manifest(self, session: Session, generation_id: int, pointer: Pointer) -> tuple[Manifest | None, list[str]]:
        """Return the published manifest, or None and the reasons why it cannot be used."""
        if pointer.manifest == 0:
            return None, []
        try:
            manifest = self.store.manifest(generation_id, pointer.manifest)
        except (DamagedError, ServiceUnavailableError) as error:
            return None, [str(error)]
        if manifest.system_identifier != repository.system_identifier(session):
            return None, [f"manifest {manifest.number} belongs to another database: this one was restored from a dump"]
        return manifest, []

    def _advance(self, session: Session, view: View, head: Head) -> View:
        """Add the rows committed since the view's snapshot."""
        xmin = int(view.snapshot.partition(":")[0])
        unseen = Window(view.generation_id, xmin, unseen_in=view.snapshot)
        # Most transactions wrote something else. This question costs less than either of the two that it saves.
        has_rows, has_erased = view.source.has_any(session, unseen)
        chunks = view.source.rows(session, unseen, view.vector_size) if has_rows else iter(())
        newest = build_part(chunks, view.vector_size, view.assigned_units)
        # What was erased since the question is not visible in the head's snapshot either: the next search omits it.
        gone = view.source.erased(session, unseen) if has_erased else np.empty(0, dtype=np.int64)
        dead = np.union1d(newest.rows.ids, gone)
        if len(dead) == 0:
            return replace(view, snapshot=head.snapshot)
        newer = delta.appended(delta.without(view.newer, dead), newest.without(gone))
        self._require_room(view.generation_id, sum(part.live_count for part in newer), view.vector_size)
        return replace(
            view,
            snapshot=head.snapshot,
            segments=delta.without(view.segments, dead),
            newer=newer,
            remote=view.remote and view.remote.without(dead),
        )

    def _require_room(self, generation_id: int, rows: int, size: int) -> None:
        """Raise ``ServiceUnavailableError`` if these rows are too many to hold in memory."""
        if rows * (size * CODE.itemsize + COLUMNS_BYTES) > (self._max_rows_bytes or MAX_ROWS_BYTES):
            raise ServiceUnavailableError(
                f"{rows} images of generation {generation_id} are missing in the readable index, "
                "too many to search without it: run `ramq index rebuild`"
            )


def _is_current(view: View, head: Head) -> bool:
    is_same = view.pointer == head.pointer and view.snapshot == head.snapshot
    return is_same and head.is_exact and not view.is_to_be_opened_again


def _is_replaced(view: View, head: Head) -> bool:
    return view.pointer != head.pointer or head.epoch - view.epoch >= FORGOTTEN


def _continues(view: View, head: Head) -> bool:
    """Return whether a later publication only moved rows of the view, or newer ones, to other segments.

    The view then stays right: it only has to be advanced. Rows of a collection in Milvus may be gone.
    """
    moved = view.pointer.manifest < head.pointer.manifest and view.pointer.watermark <= head.pointer.watermark
    return moved and view.remote is None and not view.damaged and 0 <= head.epoch - view.epoch < FORGOTTEN


def _is_near(session: Session, view: View) -> bool:
    """Return whether few rows are newer than the view: reading many takes longer than opening segments with them."""
    if sum(part.live_count for part in view.newer) > NEWER_ROWS:
        return False
    window = Window(view.generation_id, int(view.snapshot.partition(":")[0]), _NEVER)
    return view.source.end_of_slice(session, window, NEAR_ROWS) == _NEVER

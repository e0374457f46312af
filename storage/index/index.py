"""The reader: one search over the published segments and everything that was committed since.

A search sees what its transaction sees. The session's snapshot and the published manifest come from Postgres in one
round trip; if neither changed since the last search, nothing else is read. Rows whose segment is lost, and all rows
while nothing is published, are read from Postgres and searched just as exactly.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from ramq.kit.errors import NotFoundError, ServiceUnavailableError
from ramq.kit.logs import get_logger
from storage.index.delta import Delta
from storage.index.manifest import DamagedError
from storage.index.packing import CODE, require_unit_length
from storage.index.segment import Segment, build
from storage.index.status import index_status
from storage.index.store import SegmentStore
from storage.repositories import vectors as repository
from storage.repositories.vectors import Window

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.delta import DeltaView
    from storage.index.manifest import Manifest
    from storage.index.places import Place
    from storage.repositories.vectors import Head, Pointer
    from storage.views import IndexView

DELTA_ROWS = 50_000
"""A delta of more rows is turned into a segment in memory: nobody is building the index."""

RETRY_SECONDS = 60.0
"""How long rows of a segment that could not be read are served from Postgres before it is tried again."""

MAX_ROWS_BYTES = 4 * 1024**3
"""How much of what is missing in the segments a process reads from Postgres into memory."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment and which of its rows count."""

    segment: Segment
    is_live: NDArray[np.bool_] | None = None
    selected: NDArray[np.uint8] | None = None

    def without(self, image_ids: NDArray[np.int64]) -> _Part:
        """Return the part less some images (ascending ids)."""
        rows = self.segment.rows_of(image_ids)
        if len(rows) == 0:
            return self
        is_live = np.ones(len(self.segment.ids), dtype=np.bool_) if self.is_live is None else self.is_live.copy()
        is_live[rows] = False
        return _Part(self.segment, is_live, np.packbits(is_live, bitorder="little"))

    def search(
        self, query: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return up to ``k`` (image ids, inner products) of live rows, best first."""
        selected = self.selected
        if allowed is not None:
            rows = self.segment.rows_of(allowed)
            mask = np.zeros(len(self.segment.ids), dtype=np.bool_)
            mask[rows if self.is_live is None else rows[self.is_live[rows]]] = True
            selected = np.packbits(mask, bitorder="little")
        return self.segment.search(query, k, selected)


@dataclass(frozen=True, slots=True)
class _View:
    """All the vectors of a generation at one snapshot; immutable."""

    vector_size: int
    pointer: Pointer
    snapshot: str
    parts: tuple[_Part, ...]
    delta: DeltaView
    delta_rows: Delta
    damaged: tuple[str, ...]
    opened_at: float

    @property
    def is_to_be_opened_again(self) -> bool:
        """Whether it is worth another look at segments that could not be read, or the delta grew too long."""
        is_stale = bool(self.damaged) and time.monotonic() - self.opened_at > RETRY_SECONDS
        return is_stale or len(self.delta_rows) > DELTA_ROWS


@dataclass(slots=True)
class _Generation:
    lock: Lock = field(default_factory=Lock)
    view: _View | None = None


class VectorIndex:
    """Searches the vectors of any generation. One per process; thread-safe.

    Args:
        place: where segments are published.
        cache_dir: a folder of this machine for copies of far segments and notes on what was checked.
    """

    def __init__(self, place: Place, cache_dir: Path) -> None:
        self.store = SegmentStore(place, cache_dir)
        self._generations: dict[int, _Generation] = {}
        self._lock = Lock()

    def search(
        self,
        session: Session,
        generation_id: int,
        query: NDArray[np.float32],
        k: int,
        *,
        allowed_ids: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the ``k`` nearest images as (image ids, cosine similarities), best first; fewer if there are fewer.

        Exact over everything that is committed when the call begins.

        Args:
            session: a transaction; what it has written itself is seen too.
            generation_id: whose vectors.
            query: (D,) of length 1.
            k: at least 1.
            allowed_ids: only these images; None: all.

        Raises:
            ValueError: the query is not a unit vector of the generation's size, or ``k`` is below 1.
            NotFoundError: there is no such generation.
            ServiceUnavailableError: too much of the index is missing to be served from the database.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        view = self._view(session, generation_id)
        if query.shape != (view.vector_size,):
            raise ValueError(f"the query must have the shape ({view.vector_size},), not {query.shape}")
        query = np.ascontiguousarray(query, dtype=np.float32)
        require_unit_length(query[np.newaxis])
        allowed = None if allowed_ids is None else np.unique(allowed_ids.astype(np.int64, copy=False))
        found = [part.search(query, k, allowed) for part in view.parts]
        found.append(view.delta.search(query, k, allowed))
        ids = np.concatenate([ids for ids, _ in found])
        scores = np.concatenate([scores for _, scores in found])
        best = np.lexsort((ids, -scores))[:k]  # equal scores in order of id, so that pages are stable
        return ids[best], scores[best]

    def vector_of(self, session: Session, generation_id: int, image_id: int) -> NDArray[np.float32] | None:
        """Return the vector of an image as (D,); None if it has none."""
        return repository.vector_of(session, generation_id, image_id)

    def status(self, session: Session, generation_id: int) -> IndexView:
        """Return what is published, against the database. Raises ``NotFoundError``."""
        return index_status(session, self.store, generation_id)

    def damaged(self, generation_id: int) -> tuple[str, ...]:
        """Return what could not be read at the last search and is served from Postgres, one line each."""
        view = self._generation(generation_id).view
        return () if view is None else view.damaged

    def _generation(self, generation_id: int) -> _Generation:
        with self._lock:
            return self._generations.setdefault(generation_id, _Generation())

    def _view(self, session: Session, generation_id: int) -> _View:
        # This also takes the session's connection from the pool: waiting for one with the lock held could last for
        # ever, if those who have the connections wait for the lock.
        head = repository.head(session, generation_id)
        if head.is_private:
            return self._open(session, generation_id, head)
        generation = self._generation(generation_id)
        view = generation.view
        if view is not None and _is_current(view, head):
            return view
        with generation.lock:
            # A snapshot older than the view's, taken before the wait, would turn the view back.
            head = repository.head(session, generation_id)
            view = generation.view
            if view is None or view.pointer != head.pointer or view.is_to_be_opened_again:
                view = self._open(session, generation_id, head)
            elif view.snapshot != head.snapshot:
                view = _advance(session, generation_id, view, head)
            generation.view = view
            return view

    def _open(self, session: Session, generation_id: int, head: Head) -> _View:
        """Put together the segments that are published and what only Postgres has."""
        size = repository.vector_size(session, generation_id)
        if size is None:
            raise NotFoundError(f"there is no generation {generation_id}")
        manifest, damaged = self._manifest(session, generation_id, head.pointer)
        parts: list[_Part] = []
        missing: list[Window] = []
        for entry in manifest.segments if manifest else ():
            try:
                segment = self.store.segment(generation_id, entry.name)
                parts.append(_Part(segment).without(self.store.dead(generation_id, entry)))
            except (DamagedError, ServiceUnavailableError) as error:
                damaged.append(str(error))
                missing.append(Window(generation_id, entry.lo, entry.hi))
        newest = Window(generation_id, manifest.watermark if manifest else 0)
        _require_room(session, [*missing, newest], size)
        parts += [_Part(build(repository.rows(session, window, size), size)) for window in missing]
        recent = build(repository.rows(session, newest, size), size)
        # Read last: what was erased while the rows were read must not stay.
        gone = repository.erased(session, newest)
        parts = [part.without(recent.ids).without(gone) for part in [*parts]] + [_Part(recent).without(gone)]
        if damaged:
            get_logger().warning(
                "parts of the vector index cannot be read and are served from the database: run `ramq index rebuild`",
                generation_id=generation_id,
                damaged=damaged,
            )
        if manifest is not None and not head.is_private:
            self.store.keep_open(generation_id, {entry.name for entry in manifest.segments})
        delta = Delta(size)
        return _View(
            size, head.pointer, head.snapshot, tuple(parts), delta.view(), delta, tuple(damaged), time.monotonic()
        )

    def _manifest(self, session: Session, generation_id: int, pointer: Pointer) -> tuple[Manifest | None, list[str]]:
        """Return the published manifest, or None and the reason why it cannot be used."""
        if pointer.manifest == 0:
            return None, []
        try:
            manifest = self.store.manifest(generation_id, pointer.manifest)
        except (DamagedError, ServiceUnavailableError) as error:
            return None, [str(error)]
        if manifest.system_identifier != repository.system_identifier(session):
            return None, [f"manifest {manifest.number} is of another database: this one was restored from a dump"]
        return manifest, []


def _is_current(view: _View, head: Head) -> bool:
    return view.pointer == head.pointer and view.snapshot == head.snapshot and not view.is_to_be_opened_again


def _advance(session: Session, generation_id: int, view: _View, head: Head) -> _View:
    """Add what was committed since the view's snapshot."""
    xmin = int(view.snapshot.partition(":")[0])
    unseen = Window(generation_id, xmin, unseen_in=view.snapshot)
    changed = []
    for ids, vectors in repository.rows(session, unseen, view.vector_size, is_sorted=False):
        view.delta_rows.add(ids, vectors)
        changed.append(ids)
    # Read after the rows, see `_open`.
    gone = repository.erased(session, unseen)
    view.delta_rows.remove(gone)
    changed.append(gone)
    dead = np.unique(np.concatenate(changed))
    if len(dead) == 0:
        return replace(view, snapshot=head.snapshot)
    parts = tuple(part.without(dead) for part in view.parts)
    return replace(view, snapshot=head.snapshot, parts=parts, delta=view.delta_rows.view())


def _require_room(session: Session, windows: list[Window], size: int) -> None:
    """Raise ``ServiceUnavailableError`` if these rows are too many to be held in memory."""
    rows = sum(repository.count(session, window) for window in windows)
    if rows * size * CODE.itemsize > MAX_ROWS_BYTES:
        raise ServiceUnavailableError(
            f"{rows} vectors of generation {windows[0].generation_id} are in no readable part of the index, "
            "too many to search without it: run `ramq index rebuild`"
        )

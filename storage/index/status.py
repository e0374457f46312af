"""Compare the published index of a generation with the database, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from storage.index.manifest import DamagedError
from storage.results import generations
from storage.results import vectors as repository
from storage.results.generation_views import IndexView
from storage.results.index_rows import source_of
from storage.results.vectors import Window

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from storage.index.manifest import SegmentEntry
    from storage.index.pointers import Pointers
    from storage.index.store import SegmentStore
    from storage.results.index_rows import RowSource


def index_status(
    session: Session, store: SegmentStore, generation_id: int, pointers: Pointers = repository
) -> IndexView:
    """Return the state of the index. ``delta`` counts the vectors that are newer than every segment.

    An unreadable manifest counts as no segments: its rows are served from the database.

    Raises:
        NotFoundError: there is no such generation.
        ServiceUnavailableError: the storage of the index does not answer.
    """
    generation, source = generations.get(session, generation_id, stage=None), source_of(session, generation_id)
    pointer = pointers.head(session, generation_id).pointer
    segments: tuple[SegmentEntry, ...] = ()
    watermark = 0
    if pointer.manifest:
        try:
            manifest = store.manifest(generation_id, pointer.manifest)
        except DamagedError:
            pass  # searches do not use it
        else:
            segments, watermark = manifest.segments, manifest.watermark
    recalls = [entry.recall for entry in segments if entry.recall is not None]
    return IndexView(
        generation_id=generation_id,
        stage=generation.stage,
        model=generation.model,
        manifest=pointer.manifest or None,
        segments=len(segments),
        listed_segments=len(recalls),
        lowest_recall=min(recalls, default=None),
        vectors_indexed=sum(entry.rows - entry.dead_rows for entry in segments),
        vectors_stored=_stored(session, store, source, generation_id, segments, watermark),
        delta=source.count(session, Window(generation_id, watermark)),
        bytes=sum(entry.size_bytes for entry in segments),
        published_at=pointer.published_at,
    )


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the published index of one generation is behind the database.

    Attributes:
        waiting_rows: rows that are newer than what is published. Searches read them from the database.
        published_at: when anything was published last; None: never.
    """

    generation_id: int
    waiting_rows: int
    published_at: datetime | None


def lag(session: Session, generation_id: int) -> Lag:
    """Return how far the index is behind, without reading any of its files."""
    pointer = repository.head(session, generation_id).pointer
    waiting = source_of(session, generation_id).count(session, Window(generation_id, pointer.watermark))
    return Lag(generation_id, waiting, pointer.published_at)


def _stored(
    session: Session,
    store: SegmentStore,
    source: RowSource,
    generation_id: int,
    segments: Sequence[SegmentEntry],
    watermark: int,
) -> int:
    """Return how many rows there are in the database. Only those newer than the segments are counted."""
    newest = Window(generation_id, watermark)
    if not segments:
        return source.count(session, newest)
    ids = source.ids(session, newest)
    changed = np.union1d(ids, source.erased(session, newest))
    stored = len(ids)
    for entry in segments:
        try:
            segment, dead = store.segment(generation_id, entry.name), store.dead(generation_id, entry)
        except DamagedError:
            stored += source.count(session, Window(generation_id, entry.lo, entry.hi))
        else:
            stored += entry.rows - len(np.union1d(dead, segment.rows.ids[segment.rows_of(changed)]))
    return stored

"""Verify the index: are its files what they claim to be, and do they agree with the database?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from storage.index.columns import differing, raw_rows
from storage.index.manifest import DamagedError, SegmentEntry
from storage.results import vectors as repository
from storage.results.index_rows import source_of
from storage.results.vectors import Window

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.part import Part
    from storage.index.pointers import Pointers
    from storage.index.store import SegmentStore
    from storage.results.index_rows import RowSource
    from storage.results.projection import RawRows


def problems(session: Session, store: SegmentStore, generation_id: int, pointers: Pointers = repository) -> list[str]:
    """Return the problems of the published index, one line each; empty if there are none.

    Args:
        session: must keep one snapshot (REPEATABLE READ).
        store: the segments. Every byte of them is read.
        generation_id: whose index.
        pointers: where it is kept what is published.

    Raises:
        NotFoundError: there is no such generation.
    """
    source = source_of(session, generation_id)
    pointer = pointers.head(session, generation_id).pointer
    if pointer.manifest == 0:
        return []
    try:
        manifest = store.manifest(generation_id, pointer.manifest)
    except DamagedError as error:
        return [str(error)]
    if manifest.system_identifier != repository.system_identifier(session):
        return [f"manifest {manifest.number} belongs to another database: run `ramq index rebuild`"]
    found: list[str] = []
    if manifest.watermark != pointer.watermark:
        found.append(f"manifest {manifest.number} ends at {manifest.watermark}, the database at {pointer.watermark}")
    newest = Window(generation_id, manifest.watermark)
    changed = np.union1d(source.ids(session, newest), source.erased(session, newest))
    covered = []
    for entry in manifest.segments:
        window = Window(generation_id, entry.lo, entry.hi)
        covered.append(source.ids(session, window))
        try:
            store.check(generation_id, entry.name)
            segment, dead = store.segment(generation_id, entry.name), store.dead(generation_id, entry)
        except DamagedError as error:
            found.append(str(error))
            continue
        found += _row_problems(entry, segment, dead, covered[-1], changed, source)
        found += _content_problems(entry, segment, source.rows(session, window, manifest.vector_size), source)
    before = source.ids(session, Window(generation_id, 0, manifest.watermark))
    lost = np.setdiff1d(before, np.concatenate([np.empty(0, dtype=np.int64), *covered]))
    if len(lost):
        found.append(f"{len(lost)} vectors are in no segment, for example {source.named(int(lost[0]))}")
    return found


def _row_problems(
    entry: SegmentEntry,
    segment: Part,
    dead: NDArray[np.int64],
    stored: NDArray[np.int64],
    changed: NDArray[np.int64],
    source: RowSource,
) -> list[str]:
    """Return problems with the set of rows in a segment. The database has ``stored`` ones in its window."""
    if len(segment.rows) != entry.rows or len(dead) != entry.dead_rows:
        return [f"{entry.name} has {len(segment.rows)} rows, {len(dead)} of them dead, which contradicts the manifest"]
    if np.any(np.diff(segment.rows.ids) <= 0):
        return [f"{entry.name} has ids in the wrong order"]
    found = []
    live = np.setdiff1d(segment.rows.ids, dead)
    missing = np.setdiff1d(stored, live)
    if len(missing):
        example = source.named(int(missing[0]))
        found.append(f"{entry.name} lacks {len(missing)} vectors of the database, for example {example}")
    ghosts = np.setdiff1d(np.setdiff1d(live, stored), changed)
    if len(ghosts):
        found.append(
            f"{entry.name} still has {len(ghosts)} deleted vectors, for example {source.named(int(ghosts[0]))}"
        )
    return found


def _content_problems(
    entry: SegmentEntry, segment: Part, stored: Iterable[tuple[RawRows, NDArray[np.float16]]], source: RowSource
) -> list[str]:
    """Return how a segment differs from the database, whose rows of the same window are ``stored``."""
    wrong: list[int] = []
    for raw, vectors in stored:
        is_here = np.isin(raw.ids, segment.rows.ids)
        here, rows = np.flatnonzero(is_here), segment.rows_of(raw.ids[is_here])
        shown = raw_rows(segment.rows).take(rows)
        is_other = differing(raw.take(here), shown) | np.any(segment.vectors.codes(rows) != vectors[here], axis=1)
        wrong += shown.ids[is_other].tolist()
    if not wrong:
        return []
    things = "images" if source.rows_each == 1 else "regions"
    return [f"{entry.name} differs from the database in {len(wrong)} {things}, for example {source.named(wrong[0])}"]

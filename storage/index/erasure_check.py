"""Look for deleted images wherever there may be traces: tables, searches, index files, feature files."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from storage.index.bitmaps import bitmap_of
from storage.index.manifest import DamagedError
from storage.index.milvus.reader import MilvusIndex, collections_of
from storage.index.segment import open_segment
from storage.results import erasures
from storage.results import vectors as repository
from storage.results.erasure_views import Trace
from storage.results.index_rows import indexed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.index import VectorIndex
    from storage.index.part import Part
    from storage.index.store import SegmentStore
    from storage.results.index_rows import RowSource

AGAIN = "run the same `ramq delete` again"
COMPACT = "`ramq index compact` writes the file again; the old one is deleted at the next compaction after 15 minutes"

PUBLISH = "`ramq index compact` deletes them there"
SHADOW = "`ramq index shadow build` removes them there; files that were replaced are deleted after 15 minutes"

_GENERATION = re.compile(r"generation-(\d+)")


def in_tables(session: Session, deletion_id: int) -> list[Trace]:
    """Look through the tables for images of a deletion. Return a trace for each, also if nothing was found."""
    return [Trace(f"table {table}", left, AGAIN) for table, left in erasures.left(session, deletion_id).items()]


def in_searches(session: Session, index: VectorIndex, ids: NDArray[np.int64]) -> list[Trace]:
    """Look through what searches find. Return a trace for each, also if nothing was found.

    Args:
        session: a transaction.
        index: this process's reader of the index.
        ids: ids of the images, ascending.
    """
    found = []
    for generation_id, source in indexed(session).items():
        view = index.view(session, generation_id)
        shown = sum(_live(part, ids, source.rows_each) for part in view.parts)
        if view.remote is not None:
            shown += view.remote.count_of(np.setdiff1d(ids, view.remote.dead))
            found.append(Trace(f"collection {view.remote.name}", view.remote.count_of(ids), PUBLISH))
        found.append(Trace(f"searches under generation {generation_id}", shown, AGAIN))
    return found


def in_files(
    store: SegmentStore, ids: NDArray[np.int64], feature_files: Collection[str], sources: Mapping[int, RowSource]
) -> list[Trace]:
    """Look through the index files, both published and not yet collected, and the feature files.

    Args:
        store: the segments.
        ids: ids of the images, ascending.
        feature_files: files that had rows of these images.
        sources: of the rows of each generation, dropped ones included.
    """
    rows_each = {generation_id: source.rows_each for generation_id, source in sources.items()}
    segments = list(_segments(store, ids, rows_each)) or [Trace("files of the index", 0, COMPACT)]
    folders = {name.rpartition("/")[0] for name in feature_files}
    there = {f"{folder}/{name}" for folder in folders for name in store.place.names(folder)}
    return [*segments, Trace("files of features", len(there.intersection(feature_files)), COMPACT)]


def in_shadow(session: Session, index: VectorIndex, ids: NDArray[np.int64]) -> list[Trace]:
    """Look through the collections and files of a shadow, published or not. Return a trace for each, or for all.

    Args:
        session: a transaction.
        index: a reader of the shadow.
        ids: ids of the images, ascending.
    """
    rows_each = {number: source.rows_each for number, source in indexed(session, with_dropped=True).items()}
    found = [
        replace(trace, place=f"shadow, {trace.place}", remedy=SHADOW)
        for trace in _segments(index.store, ids, rows_each)
    ]
    if isinstance(index, MilvusIndex):
        found += [
            Trace(f"shadow, collection {name}", index.count_of(name, ids), SHADOW)
            for name in collections_of(index.milvus, repository.system_identifier(session), index.family)
        ]
    return found or [Trace("files of the shadow", 0, SHADOW)]


def _live(part: Part, ids: NDArray[np.int64], rows_each: int) -> int:
    rows = part.rows_of_images(ids, rows_each)
    return len(rows) if part.live is None else part.live.intersection_cardinality(bitmap_of(rows.astype(np.uint32)))


def _segments(store: SegmentStore, ids: NDArray[np.int64], rows_each: Mapping[int, int]) -> Iterator[Trace]:
    """Yield the segments that hold rows of these images, in the index storage and in this machine's cache."""
    for folder in store.place.names(""):
        match = _GENERATION.fullmatch(folder)
        if match is None:
            continue
        for name in store.place.names(folder):
            if name.startswith("segment-"):
                opened = partial(store.segment, int(match[1]), name)
                yield from _rows_in(opened, f"{folder}/{name}", ids, rows_each.get(int(match[1]), 1))
    for copy in (store.cache_dir / "segments").glob("generation-*/segment-*"):
        where = f"this machine's copy of {copy.parent.name}/{copy.name}"
        match = _GENERATION.fullmatch(copy.parent.name)
        each = 1 if match is None else rows_each.get(int(match[1]), 1)
        yield from _rows_in(partial(open_segment, copy, copy.name), where, ids, each)


def _rows_in(opened: Callable[[], Part], where: str, ids: NDArray[np.int64], rows_each: int) -> Iterator[Trace]:
    try:
        rows = len(opened().rows_of_images(ids, rows_each))
    except DamagedError:
        yield Trace(f"{where}, which cannot be read", len(ids), "`ramq index rebuild` rebuilds it")
        return
    if rows:
        yield Trace(where, rows, COMPACT)

"""The columns of a part. They are made from rows, or mapped from a file; both give the same arrays.

Tags are stored in both directions: by row (to count the tags of results) and by tag (to find the rows). Nearly every
query asks for tags above the vocabulary's own thresholds, so the rows of each tag at this threshold are stored as
bitmaps.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from pyroaring import BitMap

from storage.index.bitmaps import bitmap_of
from storage.index.names import rows_named
from storage.index.rows import Rows
from storage.results.projection import RawRows, offsets_of, taken

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from typing import Any

    from numpy.typing import NDArray

KEPT_BITMAPS = 64
"""Cached bitmaps per part: at most 64, each of up to an eighth of a byte per row."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of the rows, and the rows in order of their keys.

    Attributes:
        offsets: (N + 1,): the key of row n is ``blob[offsets[n] : offsets[n + 1]]``.
        blob: UTF-8.
        order: (N,) rows, ascending by the bytes of their keys.
    """

    offsets: NDArray[np.int64]
    blob: NDArray[np.uint8]
    order: NDArray[np.uint32]
    _named: _Kept = field(default_factory=lambda: _Kept(KEPT_BITMAPS), init=False, compare=False, repr=False)

    def key(self, row: int) -> bytes:
        """Return the key of a row."""
        return self.blob[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def below(self, prefix: bytes) -> NDArray[np.uint32]:
        """Return the rows whose key begins with ``prefix``, in any archive."""
        numbers = range(len(self.order))
        # Sorted keys stay sorted when each is cut to the length of the prefix.
        start = bisect_left(numbers, prefix, key=lambda n: self._head(n, len(prefix)))
        end = bisect_right(numbers, prefix, lo=start, key=lambda n: self._head(n, len(prefix)))
        return self.order[start:end]

    def named(self, word: str, *, is_beginning: bool) -> BitMap:
        """Return the rows whose file name has a word. The bitmap is cached and must not be changed."""
        key = (word.casefold(), is_beginning)
        kept = self._named.get(key)
        if kept is None:
            kept = bitmap_of(rows_named(self, word, is_beginning=is_beginning))
            self._named.put(key, kept)
        return kept

    def _head(self, number: int, length: int) -> bytes:
        row = self.order[number]
        start = self.offsets[row]
        return self.blob[start : min(start + length, self.offsets[row + 1])].tobytes()


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of the rows. T is the number of tags in the vocabulary.

    Attributes:
        offsets, tags, scores: by row, see ``TagColumns``.
        posting_offsets: (T + 1,): the rows of tag t are ``posting_rows[posting_offsets[t] : posting_offsets[t + 1]]``.
        posting_rows, posting_scores: (M,): by tag.
        assigned_units: (T,): the vocabulary's own thresholds, in the units of scores.
        assigned_counts: (T,): rows whose score is above that.
        bitmap_offsets: (T + 1,): where in ``bitmaps`` the serialised roaring bitmap of these rows is. (0,): nowhere.
        bitmaps: bytes.
    """

    offsets: NDArray[np.int64]
    tags: NDArray[np.int16]
    scores: NDArray[np.int16]
    posting_offsets: NDArray[np.int64]
    posting_rows: NDArray[np.uint32]
    posting_scores: NDArray[np.int16]
    assigned_units: NDArray[np.int32]
    assigned_counts: NDArray[np.int32]
    bitmap_offsets: NDArray[np.int64]
    bitmaps: NDArray[np.uint8]
    _kept: _Kept = field(default_factory=lambda: _Kept(KEPT_BITMAPS), init=False, compare=False, repr=False)

    def postings(self, tag_id: int) -> tuple[NDArray[np.uint32], NDArray[np.int16]]:
        """Return (rows, scores) of a tag: (K,), (K,), rows ascending; empty if no row has the tag."""
        if not 0 <= tag_id < len(self.assigned_units):
            return self.posting_rows[:0], self.posting_scores[:0]
        here = slice(self.posting_offsets[tag_id], self.posting_offsets[tag_id + 1])
        return self.posting_rows[here], self.posting_scores[here]

    def above(self, tag_id: int, units: int) -> BitMap:
        """Return the rows whose score of the tag is above ``units``. The bitmap is cached and must not be changed."""
        kept = self._kept.get((tag_id, units))
        if kept is None:
            kept = self._above(tag_id, units)
            self._kept.put((tag_id, units), kept)
        return kept

    def _above(self, tag_id: int, units: int) -> BitMap:
        rows, scores = self.postings(tag_id)
        if len(rows) == 0:
            return BitMap()
        if units != self.assigned_units[tag_id] or len(self.bitmap_offsets) == 0:
            return bitmap_of(rows[scores > units])
        start, end = self.bitmap_offsets[tag_id], self.bitmap_offsets[tag_id + 1]
        return BitMap.deserialize(self.bitmaps[start:end].tobytes()) if end > start else BitMap()


class _Kept:
    """The most recently used bitmaps. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bitmaps: OrderedDict[Hashable, BitMap] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable) -> BitMap | None:
        with self._lock:
            found = self._bitmaps.get(key)
            if found is not None:
                self._bitmaps.move_to_end(key)
            return found

    def put(self, key: Hashable, bitmap: BitMap) -> None:
        with self._lock:
            self._bitmaps[key] = bitmap
            while len(self._bitmaps) > self._limit:
                self._bitmaps.popitem(last=False)


def columns(raw: RawRows, assigned_units: NDArray[np.int32], *, with_bitmaps: bool = True) -> Rows:
    """Return the columns of rows that are in ascending order of image id.

    Args:
        raw: the rows.
        assigned_units: (T,) the threshold of each tag of the vocabulary, in score units.
        with_bitmaps: whether to make the bitmap of each tag, for a file. Without, searches make those that they need.

    Raises:
        ValueError: the ids are not ascending.
    """
    if np.any(np.diff(raw.ids) <= 0):
        raise ValueError("rows of a part must come in ascending order of image id, each image once")
    return Rows(
        ids=raw.ids,
        archives=raw.archives,
        jobs=raw.jobs,
        modified=raw.modified,
        sizes=raw.sizes,
        keys=_keys(raw),
        tags=_tags(raw, assigned_units, with_bitmaps=with_bitmaps),
    )


def raw_rows(rows: Rows) -> RawRows:
    """Return columns as the rows they were made from."""
    keys, tags = rows.keys, rows.tags
    return RawRows(
        rows.ids, rows.archives, rows.jobs, rows.modified, rows.sizes, keys.offsets, keys.blob, tags.offsets, tags.tags,
        tags.scores,
    )  # fmt: skip


def joined(chunks: Sequence[RawRows]) -> RawRows:
    """Return chunks as one, in the same order."""
    if len(chunks) == 1:
        return chunks[0]

    def all_of(name: str, dtype: type[np.generic]) -> NDArray[Any]:
        return np.concatenate([np.empty(0, dtype), *(getattr(chunk, name) for chunk in chunks)])

    def joined_offsets(name: str) -> NDArray[np.int64]:
        lengths = [np.diff(getattr(chunk, name)) for chunk in chunks]
        return offsets_of(np.concatenate([np.empty(0, np.int64), *lengths]))

    return RawRows(
        all_of("ids", np.int64),
        all_of("archives", np.int32),
        all_of("jobs", np.int64),
        all_of("modified", np.int64),
        all_of("sizes", np.int64),
        joined_offsets("key_offsets"),
        all_of("key_bytes", np.uint8),
        joined_offsets("tag_offsets"),
        all_of("tags", np.int16),
        all_of("scores", np.int16),
    )


def differing(left: RawRows, right: RawRows) -> NDArray[np.bool_]:
    """Return which rows differ between two lists of the same length, (N,)."""
    is_other = np.zeros(len(left), dtype=np.bool_)
    for name in ("ids", "archives", "jobs", "modified", "sizes"):
        is_other |= getattr(left, name) != getattr(right, name)
    for offsets, contents in (("key_offsets", ("key_bytes",)), ("tag_offsets", ("tags", "scores"))):
        starts, others = getattr(left, offsets), getattr(right, offsets)
        lengths = np.diff(starts)
        is_long = lengths != np.diff(others)
        is_other |= is_long
        # Only values of the same length can be compared element by element.
        same = np.flatnonzero(~is_long)
        row_of = np.repeat(same, lengths[same])
        places, other_places = taken(starts, same)[1], taken(others, same)[1]
        for content in contents:
            is_other[row_of[getattr(left, content)[places] != getattr(right, content)[other_places]]] = True
    return is_other


def _keys(raw: RawRows) -> Keys:
    blob, ends = raw.key_bytes.tobytes(), raw.key_offsets.tolist()
    keys = [blob[start:end] for start, end in pairwise(ends)]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.uint32)
    return Keys(raw.key_offsets, raw.key_bytes, order)


def _tags(raw: RawRows, assigned_units: NDArray[np.int32], *, with_bitmaps: bool) -> Tags:
    counts = np.diff(raw.tag_offsets)
    known = max(len(assigned_units), int(raw.tags.max(initial=-1)) + 1)
    units = np.full(known, np.iinfo(np.int32).max, dtype=np.int32)
    units[: len(assigned_units)] = assigned_units
    by_tag = np.argsort(raw.tags, kind="stable")  # keeps the rows in order within a tag
    rows = np.repeat(np.arange(len(raw), dtype=np.uint32), counts)[by_tag]
    scores = raw.scores[by_tag]
    starts = offsets_of(np.bincount(raw.tags, minlength=known))
    is_assigned = scores > np.repeat(units, np.diff(starts))
    assigned_counts = np.bincount(raw.tags[by_tag][is_assigned], minlength=known)
    bitmap_offsets, bitmaps = np.empty(0, np.int64), np.empty(0, np.uint8)
    if with_bitmaps:
        bitmap_offsets, bitmaps = _bitmaps(rows[is_assigned], assigned_counts)
    return Tags(
        offsets=raw.tag_offsets,
        tags=raw.tags,
        scores=raw.scores,
        posting_offsets=starts,
        posting_rows=rows,
        posting_scores=scores,
        assigned_units=units,
        assigned_counts=assigned_counts.astype(np.int32),
        bitmap_offsets=bitmap_offsets,
        bitmaps=bitmaps,
    )


def _bitmaps(rows: NDArray[np.uint32], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return offsets (T + 1,) and bytes of serialised bitmaps: of ``rows``, ``counts`` (T,) belong to each tag."""
    ends = offsets_of(counts)
    bitmaps = [b""] * len(counts)
    for tag_id in np.flatnonzero(counts).tolist():
        bitmap = bitmap_of(rows[ends[tag_id] : ends[tag_id + 1]])
        bitmap.run_optimize()
        bitmaps[tag_id] = bitmap.serialize()
    offsets = offsets_of(np.fromiter(map(len, bitmaps), np.int64, count=len(counts)))
    return offsets, np.frombuffer(b"".join(bitmaps), dtype=np.uint8)

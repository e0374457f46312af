"""Long lists of nearest images, kept in memory, so that deep pages of a search cost little more than the first one.

Lists of published segments are kept. Segments are immutable, and so is what is nearest in them. Newer rows are few and
are searched each time, so what was committed since is found, and what was deleted is not.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyroaring import BitMap

    from storage.index.selection import Selection

LONG = 200
"""Lists that are shorter are not kept: the first pages of searches, which few people leave."""

KEPT = 64
"""Number of lists that a process keeps, the ones used last. With 10,000 images one takes 120 kB, and a bitmap."""

Nearest = tuple["NDArray[np.int64]", "NDArray[np.float32]"]
"""(Image ids, cosine similarities), best first."""


def nearest(found: Selection, query: NDArray[np.float32], k: int) -> Nearest:
    """Return ``found.nearest(query, k)``, or what a search for more of the same segments found before."""
    published = tuple((part, rows) for part, rows in found.parts if part.vectors.coarse is not None)
    if k < LONG or not published:
        return found.nearest(query, k)
    ids, cosines = kept().of(replace(found, parts=published, remote=None), query, k)
    if len(published) < len(found.parts) or found.remote is not None:
        others = tuple((part, rows) for part, rows in found.parts if part.vectors.coarse is None)
        newer = replace(found, parts=others).nearest(query, k)
        ids, cosines = np.concatenate([ids, newer[0]]), np.concatenate([cosines, newer[1]])
        best = np.lexsort((ids, -cosines))
        ids, cosines = ids[best], cosines[best]
    return ids[:k], cosines[:k]


@dataclass(frozen=True, slots=True)
class _List:
    """What is nearest in these rows of segments, as far as ``depth``. Does not keep the segments open."""

    segments: tuple[tuple[weakref.ref[Any], BitMap | None], ...]
    depth: int
    found: Nearest

    def is_of(self, selection: Selection) -> bool:
        return len(self.segments) == len(selection.parts) and all(
            segment() is part.vectors.exact and _is_same(kept, rows if selection.is_narrowed else part.live)
            for (segment, kept), (part, rows) in zip(self.segments, selection.parts, strict=True)
        )


class KeptLists:
    """The lists that were used last. Thread-safe."""

    def __init__(self) -> None:
        self._lists: OrderedDict[bytes, _List] = OrderedDict()
        self._lock = Lock()

    def of(self, selection: Selection, query: NDArray[np.float32], k: int) -> Nearest:
        """Return at least the ``k`` nearest of a selection of segments, or all."""
        key = query.tobytes()
        with self._lock:
            kept = self._lists.get(key)
            if kept is not None and kept.depth >= k and kept.is_of(selection):
                self._lists.move_to_end(key)
                return kept.found
        found = selection.nearest(query, k)
        segments = tuple(
            (weakref.ref(part.vectors.exact), rows if selection.is_narrowed else part.live)
            for part, rows in selection.parts
        )
        with self._lock:
            self._lists[key] = _List(segments, k, found)
            self._lists.move_to_end(key)
            while len(self._lists) > KEPT:
                self._lists.popitem(last=False)
        return found


@cache
def kept() -> KeptLists:
    """Return the lists of this process."""
    return KeptLists()


def _is_same(one: BitMap | None, other: BitMap | None) -> bool:
    return one is other or (one is not None and other is not None and one == other)

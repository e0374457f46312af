"""Compare two generations: which tags one gives that the other does not, and on which images.

Nothing is read from PostgreSQL: the columns of both indexes are enough. Images are matched by id. Tags are matched by
name, since two vocabularies number theirs differently.
"""

from __future__ import annotations

from array import array
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pyroaring import BitMap

from storage.results.generation_views import GenerationComparison, TagChange

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from storage.index.rows import Rows
    from storage.results.generation_views import GenerationView
    from storage.results.tags import Names


class LiveRows(Protocol):
    """A part of an index: its columns, and which of its rows are live (None: all)."""

    @property
    def rows(self) -> Rows:
        """The columns."""

    @property
    def live(self) -> BitMap | None:
        """The live rows."""


class Side:
    """One of the two generations: its compared rows and the names of its tags.

    Args:
        view: the generation.
        parts: its index; every image has one live row.
        names: its vocabulary; the tags' own thresholds decide what is assigned.
        within: only images of this archive (id) whose key begins with this prefix; None: all.
    """

    def __init__(
        self, view: GenerationView, parts: Iterable[LiveRows], names: Names, within: tuple[int, str] | None
    ) -> None:
        self.view = view
        self.names = names
        self._parts = [(part.rows, _selected(part, within)) for part in parts]
        self._places: list[NDArray[np.int64]] = []

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """(N,) ids of the images, ascending."""
        chosen = [rows.ids[_numbers(selected)] for rows, selected in self._parts]
        return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *chosen]), kind="stable")

    @cached_property
    def tags_by_name(self) -> dict[str, list[int]]:
        """Tag ids by lowercased name."""
        found: dict[str, list[int]] = {}
        for tag_id, name in enumerate(self.names.names):
            found.setdefault(_fold(name), []).append(tag_id)
        return found

    def place(self, both: NDArray[np.int64]) -> None:
        """Look up each row's position in ``both`` (ascending image ids), by which the two sides are compared."""
        for rows, _ in self._parts:
            at = np.searchsorted(both, rows.ids)
            at[at == len(both)] = 0
            is_there = both[at] == rows.ids if len(both) else np.zeros(len(rows.ids), dtype=np.bool_)
            self._places.append(np.where(is_there, at, -1))

    def assigned(self, name: str) -> tuple[int, BitMap]:
        """Return how many images have a tag of this name, and the positions of those that are on both sides."""
        total, shared = 0, BitMap()
        tag_ids = self.tags_by_name.get(name, ())
        for (rows, selected), places in zip(self._parts, self._places, strict=True):
            found = BitMap.union(*(rows.tags.above(i, self.names.units(i, None)) for i in tag_ids)) if tag_ids else None
            if found is None:
                continue
            found = found & selected
            total += len(found)
            at = places[_numbers(found)]
            shared |= _bitmap(at[at >= 0])
        return total, shared


def compare(a: Side, b: Side, *, limit: int, samples: int) -> GenerationComparison:
    """Compare two generations tag by tag. Tags that do not differ are left out.

    Args:
        a: the generation to start from.
        b: the generation to compare with it.
        limit: maximum number of tags to return.
        samples: maximum number of images to name for each tag, gained and lost.
    """
    both = np.intersect1d(a.ids, b.ids, assume_unique=True)
    a.place(both)
    b.place(both)
    changed = BitMap()
    changes = []
    for name in {**a.tags_by_name, **b.tags_by_name}:
        (count_a, in_a), (count_b, in_b) = a.assigned(name), b.assigned(name)
        if not count_a and not count_b:
            continue
        gained, lost = in_b - in_a, in_a - in_b
        if count_a == count_b == len(in_a & in_b):
            continue
        changed |= gained | lost
        spelling = (a if name in a.tags_by_name else b).names.names
        known = a.tags_by_name.get(name) or b.tags_by_name[name]
        changes.append(
            TagChange(
                name=spelling[known[0]],
                is_in_a=name in a.tags_by_name,
                is_in_b=name in b.tags_by_name,
                count_a=count_a,
                count_b=count_b,
                kept=len(in_a & in_b),
                gained=len(gained),
                lost=len(lost),
                gained_images=both[_numbers(gained)[:samples]].tolist(),
                lost_images=both[_numbers(lost)[:samples]].tolist(),
            )
        )
    changes.sort(key=lambda change: (-(change.gained + change.lost), -change.kept, change.name))
    return GenerationComparison(a.view, b.view, len(a.ids), len(b.ids), len(both), len(changed), changes[:limit])


def _selected(part: LiveRows, within: tuple[int, str] | None) -> BitMap:
    rows = part.rows
    every = part.live if part.live is not None else BitMap(range(len(rows)))
    if within is None:
        return every
    archive_id, prefix = within
    chosen = every & _bitmap(np.flatnonzero(rows.archives == archive_id))
    return chosen & _bitmap(rows.keys.below(prefix.encode())) if prefix else chosen


def _numbers(bitmap: BitMap) -> NDArray[np.uint32]:
    return np.frombuffer(bitmap.to_array(), dtype=np.uint32)


def _bitmap(numbers: NDArray[Any]) -> BitMap:
    return BitMap(array("I", numbers.astype(np.uint32).tobytes()))


def _fold(name: str) -> str:
    return " ".join(name.split()).casefold()

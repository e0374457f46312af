"""The delta: parts in memory with the rows that are newer than every segment. Merging keeps the parts few."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.index.part import merge

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from storage.index.part import Part

MOST_PARTS = 8
"""Maximum number of parts in memory. Each costs a search about as much as a segment does."""

GROWTH = 2
"""An older part joins a merge that is at least half its size. A row is then merged about log2(N) times."""


def without(parts: tuple[Part, ...], image_ids: NDArray[np.int64]) -> tuple[Part, ...]:
    """Return parts without these images (ascending ids). Parts with no live rows are omitted."""
    left = (part.without(image_ids) for part in parts)
    return tuple(part for part in left if part.live_count)


def appended(parts: tuple[Part, ...], newest: Part) -> tuple[Part, ...]:
    """Return the parts plus a newer one. Its images are already dead in the others. Merge if they are too many."""
    if newest.live_count == 0:
        return parts
    everything = (*parts, newest)
    if len(everything) <= MOST_PARTS:
        return everything
    kept, merged = list(everything[:-2]), list(everything[-2:])
    size = sum(part.live_count for part in merged)
    while kept and kept[-1].live_count <= GROWTH * size:
        size += kept[-1].live_count
        merged.insert(0, kept.pop())
    return (*kept, merge(merged))

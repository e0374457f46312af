"""How many of the images that match are in each archive, and in each folder."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from storage.index.bitmaps import rows_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from pyroaring import BitMap

    from storage.index.part import Part
    from storage.index.rows import KeyColumn
    from storage.index.selection import Selection

MOST_FOLDERS = 1_000
"""Folders, and images beside them, that are looked at in a part. Each takes some microseconds."""

_SLASH = b"/"


def count_archives(found: Selection) -> dict[int, int]:
    """Return how many of the images are in each archive, by its id. None of them may be remote."""
    counts: Counter[int] = Counter()
    for part, selected in found.parts:
        archives = part.rows.archives if selected is None else part.rows.archives[rows_in(selected)]
        times = np.bincount(archives)
        counts.update({number: int(times[number]) for number in np.flatnonzero(times).tolist()})
    return counts


def count_folders(found: Selection, limit: int) -> list[tuple[str, int]]:
    """Return the folders next below what all keys have in common, as prefixes of keys, with their numbers of images.

    Those with the most images, at most ``limit``, in the order of their names. Nothing if there are too many folders,
    or too many images beside them. None of the images may be remote.
    """
    parts = [_InOrder(part, selected) for part, selected in found.parts if selected is None or len(selected)]
    ends = [key for part in parts for key in part.ends()]
    if not ends:
        return []
    base = folder_of_all(min(ends), max(ends))
    counts: Counter[bytes] = Counter()
    for part in parts:
        folders = part.folders(base)
        if folders is None or len(counts) > MOST_FOLDERS:
            return []
        counts.update(folders)
    return most_of(counts, limit)


def folder_of_all(first: bytes, last: bytes) -> bytes:
    """Return the folder, with its slash, that the first and the last of some keys have in common."""
    same = next((n for n, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return first[: first.rfind(_SLASH, 0, same) + 1]


def most_of(counts: Mapping[bytes, int], limit: int) -> list[tuple[str, int]]:
    """Return the folders with the most images, at most ``limit``, in the order of their names."""
    most = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
    return [(folder.decode(errors="replace"), count) for folder, count in sorted(most)]


class _InOrder:
    """The selected rows of a part in the order of their keys."""

    def __init__(self, part: Part, selected: BitMap | None) -> None:
        self._keys: KeyColumn = part.rows.keys
        # Of each place in the order, how many selected rows are before it; the last place is behind all rows.
        self._before: NDArray[np.int64] = np.arange(len(part.rows) + 1)
        if selected is not None:
            is_selected = np.zeros(len(part.rows), dtype=np.bool_)
            is_selected[rows_in(selected)] = True
            np.cumsum(is_selected[self._keys.order], out=self._before[1:])

    def ends(self) -> list[bytes]:
        """Return the first key and the last."""
        first = int(np.searchsorted(self._before, 1)) - 1
        last = int(np.searchsorted(self._before, self._before[-1])) - 1
        return [self._key(first), self._key(last)] if self._before[-1] else []

    def folders(self, base: bytes) -> dict[bytes, int] | None:
        """Return the number of rows in each folder next below ``base``, which all have; None: it takes too long."""
        counts: dict[bytes, int] = {}
        numbers = range(len(self._keys.order))
        place = bisect_left(numbers, base, key=self._key)
        for _ in range(MOST_FOLDERS):
            # Pass over the rows that are not selected.
            place = int(np.searchsorted(self._before, self._before[place] + 1)) - 1
            if place >= len(numbers):
                return counts
            name, slash, _ = self._key(place)[len(base) :].partition(_SLASH)
            if not slash:  # beside the folders
                place += 1
                continue
            folder = base + name + slash
            end = bisect_right(numbers, folder, lo=place, key=lambda n: self._key(n)[: len(folder)])
            counts[folder] = int(self._before[end] - self._before[place])
            place = end
        return None

    def _key(self, number: int) -> bytes:
        return self._keys.key(int(self._keys.order[number]))

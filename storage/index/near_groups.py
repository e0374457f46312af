"""Group near copies: candidates by the hashes of what images show, confirmed by their vectors.

Groups are stars: every image is a near copy of the one in the middle, which has the most pixels. So no chain of slight
changes joins pictures that are unlike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from storage.index.hash_pairs import HashPairs

_SCANS_EACH = 200
"""How often an image of a hash is compared with middles of the same hash, on average. Pictures whose hashes are equal
and that are unlike would be compared with each other: a million of them for weeks."""


@dataclass(frozen=True, slots=True)
class Stars:
    """Groups of near copies: for each image, in ``groups`` the id of the middle of its group.

    Attributes:
        ids: (M,) of images, ascending, the middles included.
        groups: (M,) ids.
        distances: (M,) bits by which the hash differs from that of the middle.
        cosines: (M,) float32, between the vector and that of the middle.
        common: how many images were not compared with all that have their hash.
    """

    ids: NDArray[np.int64]
    groups: NDArray[np.int64]
    distances: NDArray[np.int16]
    cosines: NDArray[np.float32]
    common: int


def stars(  # noqa: PLR0913  (what is known of the images)
    ids: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    order: NDArray[np.int64],
    vectors: NDArray[np.float16],
    pairs: tuple[NDArray[np.uint64], HashPairs],
    cosine: float,
    *,
    between: Callable[[], None] = lambda: None,
) -> Stars:
    """Group images. Each in turn takes the near copies of it that are left, if it was not taken itself.

    Args:
        ids: (N,) ascending.
        hashes: (N,).
        order: (N,) positions of the images, in the order in which they take others: the largest first.
        vectors: (N, D) of unit length; may be mapped from a file.
        pairs: distinct hashes, ascending, and the pairs of them that are near.
        cosine: the least one between the vectors of an image and the middle.
        between: called every second or so. What it raises ends the work.
    """
    values, found = pairs
    own = np.searchsorted(values, hashes)  # (N,) positions in `values`
    members = _Lists(own, np.arange(len(ids)), len(values))
    both = np.concatenate([found.left, found.right]), np.concatenate([found.right, found.left])
    neighbours = _Lists(*both, len(values))
    group = np.full(len(ids), -1, dtype=np.int64)
    distances, cosines = np.zeros(len(ids), dtype=np.int16), np.ones(len(ids), dtype=np.float32)
    scans = np.zeros(len(values), dtype=np.int64)
    common = 0
    for number, middle in enumerate(order.tolist()):
        if not number % 1_000:
            between()
        if group[middle] >= 0:
            continue
        value = own[middle]
        near_ones = np.concatenate([members.of(each) for each in (value, *neighbours.of(value).tolist())])
        left = near_ones[(group[near_ones] < 0) & (near_ones != middle)]
        if not len(left):
            continue
        if scans[value] > _SCANS_EACH * max(1_000, len(members.of(value))):
            common += 1
            continue
        scans[value] += len(left)
        alike = vectors[left].astype(np.float32) @ vectors[middle].astype(np.float32)
        is_near = alike >= cosine
        taken = left[is_near]
        if len(taken):
            group[middle] = middle
            group[taken] = middle
            cosines[taken] = np.minimum(alike[is_near], 1)
            distances[taken] = np.bitwise_count(hashes[taken] ^ hashes[middle])
    chosen = np.flatnonzero(group >= 0)
    return Stars(ids[chosen], ids[group[chosen]], distances[chosen], cosines[chosen], common)


class _Lists:
    """Values by key, for keys 0..count-1."""

    def __init__(self, keys: NDArray[np.integer], values: NDArray[np.integer], count: int) -> None:
        order = np.argsort(keys, kind="stable")
        self._values = values[order]
        self._ends = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=count))])

    def of(self, key: int) -> NDArray[np.integer]:
        return self._values[self._ends[key] : self._ends[key + 1]]

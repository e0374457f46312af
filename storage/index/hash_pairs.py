"""Find hashes that differ in few bits, among many, in bounded memory.

Hashes are cut into four blocks of 16 bits (multi-index hashing: M. Norouzi, A. Punjani and D. Fleet, "Fast Search in
Hamming Space with Multi-Index Hashing", CVPR 2012). Of two hashes that differ in at most 7 bits, some block differs in
one bit at most. So those are compared that share a block, or have blocks one bit apart. Of pairs that differ in 8 bits,
those with two in each block are missed: 5 % if the bits are anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MOST_NEIGHBOURS = 1_000
"""A hash with more neighbours than this tells pictures apart badly: its pairs are given up."""

PAIRS_EACH = 16
"""Pairs kept for each hash, on average. If there are more, those of the hashes with most neighbours are given up."""

_BLOCKS, _BITS = 4, 16
_VALUES = 1 << _BITS
_TILE = 1 << 17
"""Pairs that are compared at once: a megabyte, which fits into the cache of a core."""


@dataclass(frozen=True, slots=True)
class HashPairs:
    """Pairs of hashes that differ in few bits.

    Attributes:
        left, right: (P,) int32 positions of the hashes of each pair, ``left`` < ``right``, each pair once.
        is_common: (N,) the hashes whose pairs were given up.
    """

    left: NDArray[np.int32]
    right: NDArray[np.int32]
    is_common: NDArray[np.bool_]


def near_pairs(
    hashes: NDArray[np.uint64], distance: int, *, most: int | None = None, between: Callable[[], None] = lambda: None
) -> HashPairs:
    """Find the pairs of hashes that differ in at most ``distance`` bits.

    Memory: 40 bytes for each hash, and 8 for each pair, of which no more than ``PAIRS_EACH`` are kept for each hash.

    Args:
        hashes: (N,) distinct.
        distance: 0 to ``nearness.MOST_DISTANCE``.
        most: instead of ``MOST_NEIGHBOURS``.
        between: called every second or so. What it raises ends the work.
    """
    found = _Found(len(hashes), most or MOST_NEIGHBOURS)
    for block in range(_BLOCKS):
        keys = (hashes >> np.uint64(block * _BITS)).astype(np.uint16)
        order = np.argsort(keys, kind="stable").astype(np.int32)
        ordered = hashes[order]
        ends = np.cumsum(np.bincount(keys, minlength=_VALUES))
        starts = (ends - np.bincount(keys, minlength=_VALUES)).tolist()
        stops = ends.tolist()
        for number, value in enumerate(np.unique(keys).tolist()):
            if not number % 256:
                between()
            first, last = starts[value], stops[value]
            parts = [(first, last)]
            if distance >= _BLOCKS:
                flipped = [value ^ (1 << bit) for bit in range(_BITS) if not value >> bit & 1]
                parts += [(starts[each], stops[each]) for each in flipped if starts[each] < stops[each]]
            other = np.concatenate([ordered[start:stop] for start, stop in parts])
            if len(other) < 2:
                continue
            rows = None  # of `other`: made only if there is a pair, which is rare
            at_once = max(1, _TILE // len(other))
            for start in range(first, last, at_once):
                ours = ordered[start : min(start + at_once, last)]
                is_near = np.bitwise_count(ours[:, None] ^ other[None]) <= distance
                # Each has itself among the others, so there are always as many.
                if np.count_nonzero(is_near) == len(ours):
                    continue
                if rows is None:
                    rows = np.concatenate([order[begin:end] for begin, end in parts])
                left, right = np.nonzero(is_near)
                # Within its own bucket each pair comes twice, and itself once: it is taken once.
                is_new = right > left + (start - first)
                left, right = left[is_new], right[is_new]
                is_first = _found_first(ours[left] ^ other[right], block, flips=int(distance >= _BLOCKS))
                found.add(order[start + left[is_first]], rows[right[is_first]])
    return found.pairs()


def _found_first(differences: NDArray[np.uint64], block: int, flips: int) -> NDArray[np.bool_]:
    """Return which pairs, by the bits in which they differ, no earlier block has found."""
    is_first = np.ones(len(differences), dtype=np.bool_)
    for earlier in range(block):
        part = (differences >> np.uint64(earlier * _BITS)) & np.uint64(_VALUES - 1)
        is_first &= np.bitwise_count(part) > flips
    return is_first


class _Found:
    """Collects pairs, and gives up those of hashes with too many."""

    def __init__(self, count: int, most: int) -> None:
        self._is_common = np.zeros(count, dtype=np.bool_)
        self._most, self._count = most, 0
        self._left: list[NDArray[np.int32]] = []
        self._right: list[NDArray[np.int32]] = []
        self._limit = max(PAIRS_EACH * count, 4 * most)

    def add(self, left: NDArray[np.int32], right: NDArray[np.int32]) -> None:
        """Keep pairs."""
        self._left.append(left)
        self._right.append(right)
        self._count += len(left)
        while self._count > self._limit:
            self._give_up()
            self._most = max(1, self._most // 2)

    def _give_up(self) -> None:
        left, right = _joined(self._left), _joined(self._right)
        size = len(self._is_common)
        self._is_common |= np.bincount(left, minlength=size) + np.bincount(right, minlength=size) > self._most
        is_kept = ~(self._is_common[left] | self._is_common[right])
        self._left, self._right = [left[is_kept]], [right[is_kept]]
        self._count = int(np.count_nonzero(is_kept))

    def pairs(self) -> HashPairs:
        """Return what was found."""
        self._give_up()
        left, right = self._left[0], self._right[0]
        return HashPairs(np.minimum(left, right), np.maximum(left, right), self._is_common)


def _joined(parts: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate([np.empty(0, dtype=np.int32), *parts])

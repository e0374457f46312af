"""Find pictures that are nearly the same, by their vectors, in bounded memory.

Up to ``EXACT_ROWS`` vectors, every pair is compared. Of more, only those pairs are that share one of the ``LISTS_EACH``
nearest centroids of each, which FAISS finds. Vectors as near as copies nearly always do, and equal ones always.
"""

from __future__ import annotations

from itertools import pairwise
from math import isqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.index.vectors import faiss, in_one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

EXACT_ROWS = 20_000
LISTS_EACH = 3
ROWS_PER_LIST = 1_000
"""Rows of a list, on average and before each row is put into ``LISTS_EACH``."""
POINTS_PER_LIST = 40
ROUNDS = 6
TILE = 2_048
"""Rows compared with as many others at once: 16 MB of cosines."""
_BLOCK = 20_000
_SEED = 20_261_129


def groups(
    vectors: NDArray[np.float16],
    cosine: float,
    *,
    rows: NDArray[np.int64] | None = None,
    exact_rows: int = EXACT_ROWS,
    between: Callable[[], None] = lambda: None,
) -> NDArray[np.int64]:
    """Group vectors: two are in one group if their cosine is at least ``cosine``, or others between them link them.

    Args:
        vectors: (N, D) of unit length; may be mapped from a file.
        cosine: -1..1.
        rows: which vectors to compare, ascending; None: all. Each other one is a group of its own.
        exact_rows: up to this many vectors, every pair is compared.
        between: called every second or so. What it raises ends the work.

    Returns:
        (N,) the lowest row of the group of each row.
    """
    label = np.arange(len(vectors), dtype=np.int64)
    found: list[NDArray[np.int64]] = []
    for listed in _lists(vectors, label if rows is None else rows, exact_rows, between):
        found.append(_joined(vectors, listed, label[listed], cosine, between))
        # Merged now and then: of what is joined already, nothing is compared again, and edges are no more than rows.
        if sum(map(len, found)) >= len(vectors):
            label, found = _merged(label, found), []
    return _merged(label, found)


def _merged(label: NDArray[np.int64], edges: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    own = np.stack([np.arange(len(label)), label], axis=1)
    return connected(len(label), np.concatenate([own, *edges]))


def connected(count: int, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, for each of ``count`` rows, the lowest row that ``edges`` (E, 2) connect it with: (N,)."""
    label = np.arange(count, dtype=np.int64)
    left, right = edges[:, 0], edges[:, 1]
    while True:
        lowest = np.minimum(label[left], label[right])
        before = label.copy()
        np.minimum.at(label, label[left], lowest)
        np.minimum.at(label, label[right], lowest)
        label = label[label]
        if np.array_equal(label, before) and np.array_equal(label[left], label[right]):
            return label


def _lists(
    vectors: NDArray[np.float16], rows: NDArray[np.int64], exact_rows: int, between: Callable[[], None]
) -> Iterator[NDArray[np.int64]]:
    """Yield those of these rows, ascending, that are to be compared with each other."""
    count = len(rows)
    if count <= exact_rows:
        yield rows
        return
    lists = max(2, min(count // ROWS_PER_LIST, 4 * isqrt(count)))
    with in_one_thread():
        quantizer = _trained(vectors, rows, lists)
        nearest = np.empty((count, min(LISTS_EACH, lists)), dtype=np.int32)
        for start in range(0, count, _BLOCK):
            between()
            block = np.ascontiguousarray(vectors[rows[start : start + _BLOCK]], dtype=np.float32)
            nearest[start : start + len(block)] = quantizer.search(block, nearest.shape[1])[1]
    order = np.argsort(nearest, axis=None, kind="stable")
    ends = np.searchsorted(nearest.reshape(-1)[order], np.arange(lists + 1))
    for start, end in pairwise(ends):
        yield rows[np.sort(order[start:end] // nearest.shape[1])]


def _trained(vectors: NDArray[np.float16], rows: NDArray[np.int64], lists: int) -> Any:
    """Return an index of the centroids of ``lists`` clusters."""
    size = vectors.shape[1]
    chosen = np.random.default_rng(_SEED).choice(len(rows), min(len(rows), lists * POINTS_PER_LIST), replace=False)
    sample = np.ascontiguousarray(vectors[rows[np.sort(chosen)]], dtype=np.float32)
    means = faiss.Kmeans(size, lists, niter=ROUNDS, seed=_SEED, spherical=True, min_points_per_centroid=1)
    means.train(sample)
    index = faiss.IndexFlatIP(size)
    index.add(means.centroids)
    return index


def _joined(
    vectors: NDArray[np.float16],
    rows: NDArray[np.int64],
    label: NDArray[np.int64],
    cosine: float,
    between: Callable[[], None],
) -> NDArray[np.int64]:
    """Return edges (E, 2) that connect what is near among these rows: at most one for each.

    ``label`` (n,) tells which of them are joined already. Of n copies of one picture, the first tile is compared with
    all of them; then they are joined, and nothing is left to compare.
    """
    _, firsts, group = np.unique(label, return_index=True, return_inverse=True)
    known = firsts[group]
    for start in range(0, len(rows), TILE):
        left = np.arange(start, min(start + TILE, len(rows)))
        ours = vectors[rows[left]].astype(np.float32)
        is_most = known[left] == np.bincount(known[left]).argmax()
        pairs: list[NDArray[np.int64]] = []
        for other in range(start, len(rows), TILE):
            between()
            right = np.arange(other, min(other + TILE, len(rows)))
            is_also = known[right] == known[left[is_most][0]]
            if is_most.all() and is_also.all():
                continue
            theirs = ours if other == start else vectors[rows[right]].astype(np.float32)
            if is_most.sum() * 2 < len(left):
                pairs.append(_near(left, right, ours, theirs, cosine))
                continue
            # All pairs, but for those within the group that most rows of this tile are in.
            pairs.append(_near(left[~is_most], right, ours[~is_most], theirs, cosine))
            pairs.append(_near(left[is_most], right[~is_also], ours[is_most], theirs[~is_also], cosine))
        if any(map(len, pairs)):
            known = _merged(known, pairs)
    linked = np.flatnonzero(known != np.arange(len(rows)))
    return np.stack([rows[linked], rows[known[linked]]], axis=1)


def _near(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    ours: NDArray[np.float32],
    theirs: NDArray[np.float32],
    cosine: float,
) -> NDArray[np.int64]:
    """Return edges (E, 2) between ``left`` and ``right``, of which these are the vectors.

    Many copies of one picture have a pair for each two of them. As many edges as rows say the same.
    """
    near, far = np.nonzero(ours @ theirs.T >= cosine)
    if not len(near):
        return np.empty((0, 2), np.int64)
    both = np.concatenate([left, right])
    label = connected(len(both), np.stack([near, far + len(left)], axis=1))
    linked = np.flatnonzero(label != np.arange(len(both)))
    return np.stack([both[linked], both[label[linked]]], axis=1)

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
    from collections.abc import Iterator

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


def groups(vectors: NDArray[np.float16], cosine: float, *, exact_rows: int = EXACT_ROWS) -> NDArray[np.int64]:
    """Group vectors: two are in one group if their cosine is at least ``cosine``, or others between them link them.

    Args:
        vectors: (N, D) of unit length; may be mapped from a file.
        cosine: -1..1.
        exact_rows: up to this many vectors, every pair is compared.

    Returns:
        (N,) the lowest row of the group of each row.
    """
    edges: list[NDArray[np.int64]] = []
    for rows in _lists(vectors, exact_rows):
        edges.extend(_edges(vectors, rows, cosine))
    return connected(len(vectors), np.concatenate(edges) if edges else np.empty((0, 2), np.int64))


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


def _lists(vectors: NDArray[np.float16], exact_rows: int) -> Iterator[NDArray[np.int64]]:
    """Yield rows, ascending, that are to be compared with each other."""
    count = len(vectors)
    if count <= exact_rows:
        yield np.arange(count, dtype=np.int64)
        return
    lists = max(2, min(count // ROWS_PER_LIST, 4 * isqrt(count)))
    with in_one_thread():
        quantizer = _trained(vectors, lists)
        nearest = np.empty((count, min(LISTS_EACH, lists)), dtype=np.int32)
        for start in range(0, count, _BLOCK):
            block = np.ascontiguousarray(vectors[start : start + _BLOCK], dtype=np.float32)
            nearest[start : start + len(block)] = quantizer.search(block, nearest.shape[1])[1]
    order = np.argsort(nearest, axis=None, kind="stable")
    ends = np.searchsorted(nearest.reshape(-1)[order], np.arange(lists + 1))
    for start, end in pairwise(ends):
        yield np.sort(order[start:end] // nearest.shape[1])


def _trained(vectors: NDArray[np.float16], lists: int) -> Any:
    """Return an index of the centroids of ``lists`` clusters."""
    size = vectors.shape[1]
    chosen = np.random.default_rng(_SEED).choice(
        len(vectors), min(len(vectors), lists * POINTS_PER_LIST), replace=False
    )
    sample = np.ascontiguousarray(vectors[np.sort(chosen)], dtype=np.float32)
    means = faiss.Kmeans(size, lists, niter=ROUNDS, seed=_SEED, spherical=True, min_points_per_centroid=1)
    means.train(sample)
    index = faiss.IndexFlatIP(size)
    index.add(means.centroids)
    return index


def _edges(vectors: NDArray[np.float16], rows: NDArray[np.int64], cosine: float) -> Iterator[NDArray[np.int64]]:
    """Yield edges (E, 2) that connect what is near among these rows: at most two for each row of a tile."""
    for start in range(0, len(rows), TILE):
        left = rows[start : start + TILE]
        ours = vectors[left].astype(np.float32)
        for other in range(start, len(rows), TILE):
            right = rows[other : other + TILE]
            theirs = ours if other == start else vectors[right].astype(np.float32)
            near, far = np.nonzero(ours @ theirs.T >= cosine)
            if other == start:
                near, far = near[near < far], far[near < far]
            if not len(near):
                continue
            # Many copies of one picture have a pair for each two of them. As many edges as rows say the same.
            both = np.concatenate([left, right])
            label = connected(len(both), np.stack([near, far + (0 if other == start else len(left))], axis=1))
            linked = np.flatnonzero(label != np.arange(len(both)))
            yield np.stack([both[linked], both[label[linked]]], axis=1)

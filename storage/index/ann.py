"""Train the coarse index of a large part, and measure how much of it a search has to scan.

The number of lists to scan is measured, not guessed: sample queries are made from the part's own vectors and answered
with and without the index. The effort is raised until the answers agree. The measurements are stored with the part.

One kind of index serves all sizes. It reaches the recall of IVF with 8-bit numbers in less time and a sixth of the
space (``benchmarks/bench_ann.py``). Scoring 200 candidates again corrects the errors of one bit per dimension.
"""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from math import isqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.index.by_lists import TUNED_K
from storage.index.vectors import ROWS_AT_ONCE, Tuning, Vectors, faiss, in_one_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

log = logging.getLogger(__name__)

FLAT_ROWS = 20_000
"""Up to this many rows are scanned. That takes half a millisecond for vectors of 512, as long as a search by lists."""

ALONE_ROWS = 100_000
"""Up to this many rows, lists are trained in one thread: some ten seconds. More threads would slow down the workers."""

LISTS_PER_ROOT = 4
"""Lists for N rows: 4 √N, following FAISS' guidelines. Finding the lists then costs as much as scanning them."""

POINTS_PER_LIST = 40
ROUNDS = 6
"""Settings of k-means. 64 points and 10 rounds took three times as long for a recall that the next effort reaches."""

STEP = 0.01
"""How far centroids are moved: a hundredth of the distance to most rows of their lists."""

MEASURING_QUERIES = 128
ENOUGH_RECALL = 0.99
"""Number of sample queries. Midpoints are harder than held-out vectors."""

LEAST_RECALL = 0.8
"""Lists with a lower recall at the greatest effort are not used. A scan is slow but exact."""

EFFORTS = (
    (16, 200), (32, 200), (64, 200), (96, 400), (128, 400), (192, 400), (256, 400), (384, 400), (512, 800), (768, 800),
    (1024, 1600),
)  # fmt: skip
"""(Lists to scan, candidates to score again) for the best ``TUNED_K``, tried in order until the recall suffices."""

_SEED = 20_240_521


@dataclass(frozen=True, slots=True)
class Plan:
    """The coarse index for a number of rows. Small numbers have no lists."""

    lists: int
    training_rows: int


def choose(rows: int, *, flat_rows: int = FLAT_ROWS) -> Plan:
    """Return the coarse index for this many rows; no lists up to ``flat_rows``."""
    if rows <= flat_rows:
        return Plan(0, 0)
    lists = max(1, min(LISTS_PER_ROOT * isqrt(rows), rows // POINTS_PER_LIST))
    return Plan(lists, min(rows, lists * POINTS_PER_LIST))


def with_lists(vectors: Vectors, *, flat_rows: int = FLAT_ROWS) -> Vectors:
    """Return the vectors with a coarse index if they are many enough. It takes some 90 bytes per row.

    During training, a sample of ``160 √N`` rows is in memory as float32.
    """
    plan = choose(len(vectors), flat_rows=flat_rows)
    if plan.lists == 0:
        return vectors
    with in_one_thread() if len(vectors) <= ALONE_ROWS else nullcontext():
        return _with_lists(vectors, plan)


def made_up_queries(vectors: Vectors, count: int = MEASURING_QUERIES) -> NDArray[np.float32]:
    """Return queries that resemble the vectors but differ from all of them: unit vectors (``count``, D).

    Half of them are vectors with as much noise as signal. Half are midpoints of pairs, which lie between the lists.
    Plain vectors would be too easy, since each finds itself.
    """
    rng = np.random.default_rng(_SEED)
    own = vectors.exact.reconstruct_batch(rng.integers(0, len(vectors), count))
    noise = rng.standard_normal(own.shape)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    others = vectors.exact.reconstruct_batch(rng.integers(0, len(vectors), count))
    queries = own + np.where(np.arange(count)[:, None] % 2, noise, others)
    # Two opposite vectors have no midpoint.
    lengths = np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-6)
    return np.ascontiguousarray(queries / lengths, dtype=np.float32)


def recall(vectors: Vectors, queries: NDArray[np.float32], k: int = TUNED_K) -> float:
    """Return the share of the true best ``k`` that searches find, over ``queries`` (Q, D)."""
    return _recall(vectors, queries, _worst_of_best(vectors, queries, k), k)


def _with_lists(vectors: Vectors, plan: Plan) -> Vectors:
    start = time.monotonic()
    try:
        coarse = _coarse(vectors.exact, plan, _on_gpus)
    except RuntimeError as error:
        if faiss.get_num_gpus() == 0:
            raise
        log.warning("the index is built without the GPU, which failed", extra={"reason": str(error)})
        coarse = _coarse(vectors.exact, plan, lambda index: index)
    tuning = _tuned(vectors, coarse, plan)
    if tuning.recall < LEAST_RECALL:
        log.warning("a part of the index is scanned, as its lists find too little", extra={"recall": tuning.recall})
        return vectors
    return Vectors(vectors.exact, coarse, replace(tuning, build_seconds=round(time.monotonic() - start, 3)))


def _tuned(vectors: Vectors, coarse: Any, plan: Plan) -> Tuning:
    """Return the least sufficient effort, or the greatest one, and its measured recall."""
    kind = f"RR{vectors.vector_size},IVF{plan.lists},RaBitQ"
    queries = made_up_queries(vectors)
    k = min(TUNED_K, len(vectors))
    bars = _worst_of_best(vectors, queries, k)
    for probes, candidates in EFFORTS:
        tuning = Tuning(kind, plan.lists, min(probes, plan.lists), candidates, 0.0, plan.training_rows, 0.0)
        share = _recall(Vectors(vectors.exact, coarse, tuning), queries, bars, k)
        if share >= ENOUGH_RECALL:
            break
    else:
        log.warning(
            "searches in a part of the index find fewer of the nearest than they should", extra={"recall": share}
        )
    return replace(tuning, recall=round(share, 4))


def _worst_of_best(vectors: Vectors, queries: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    scores: NDArray[np.float32] = vectors.exact.search(queries, k)[0][:, -1]
    return scores


def _recall(vectors: Vectors, queries: NDArray[np.float32], bars: NDArray[np.float32], k: int) -> float:
    # Compare scores, not rows: of equal images any will do.
    good = [np.count_nonzero(vectors.search(query, k)[1] >= bar) for query, bar in zip(queries, bars, strict=True)]
    return float(np.mean(good)) / k


def _coarse(exact: Any, plan: Plan, moved: Callable[[Any], Any]) -> Any:
    """Train lists on a sample and add all rows to them. ``moved`` returns the centroid index on another device."""
    # Rotate the vectors: trained encoders have a few dimensions of large numbers, which are then spread over all bits.
    coarse = faiss.index_factory(exact.d, f"RR{exact.d},IVF{plan.lists},RaBitQ", faiss.METRIC_INNER_PRODUCT)
    rotation = coarse.chain.at(0)
    lists = faiss.downcast_index(faiss.extract_index_ivf(coarse))
    lists.cp.seed, lists.cp.niter = _SEED, ROUNDS
    lists.cp.max_points_per_centroid, lists.cp.min_points_per_centroid = POINTS_PER_LIST, 1
    sample = np.sort(np.random.default_rng(_SEED).choice(exact.ntotal, plan.training_rows, replace=False))
    assigning = moved(faiss.IndexFlatIP(exact.d))  # FAISS keeps no reference
    lists.clustering_index = assigning
    coarse.train(exact.reconstruct_batch(sample))
    lists.clustering_index = None
    _move(faiss.downcast_index(lists.quantizer))
    centroids = moved(faiss.downcast_index(lists.quantizer))
    for start in range(0, exact.ntotal, ROWS_AT_ONCE):
        count = min(ROWS_AT_ONCE, exact.ntotal - start)
        rotated = rotation.apply(exact.reconstruct_n(start, count))
        nearest = np.ascontiguousarray(centroids.search(rotated, 1)[1][:, 0])
        lists.add_core(count, faiss.swig_ptr(rotated), None, faiss.swig_ptr(nearest))
    coarse.ntotal = lists.ntotal
    return coarse


def _move(centroids: Any) -> None:
    """Move centroids a little, to keep them from coinciding with a row.

    If one image is stored many times, a centroid comes to lie on it, up to rounding. RaBitQ divides by the length of
    the difference. Such rows would then look near to every query and crowd out the rows that are.
    """
    found = centroids.reconstruct_n(0, centroids.ntotal)
    steps = np.random.default_rng(_SEED).standard_normal(found.shape).astype(np.float32)
    centroids.reset()
    centroids.add(found + STEP * steps / np.linalg.norm(steps, axis=1, keepdims=True))


def _on_gpus(index: Any) -> Any:
    """Return a copy of an index on all GPUs of this machine, or the index itself if there is none."""
    return faiss.index_cpu_to_all_gpus(index) if faiss.get_num_gpus() else index

"""How far each region of a tag is from what is typical of the tag: K-Means++ by scikit-learn.

The centres are those of scikit-learn's ``KMeans``, with its k-means++ beginning, of a random sample of at most
``CleaningSettings.sample`` regions. All regions are then measured, block by block. ``MiniBatchKMeans`` would see each
region, but its centres depend on the order and the size of blocks, so two runs of the same task could drop different
labels; and a sample of hundreds of regions for each centre already says where it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ram_core.cleaning.scale import unscaled
from ram_core.errors import CleaningError
from ram_core.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from ram_core.cleaning.scale import FeatureScale
    from ram_core.cleaning.settings import CleaningSettings

_BEGINNINGS = 3
_ROWS = 4096
"""Rows that are measured at once, however large a block is."""


@dataclass(frozen=True, slots=True, eq=False)
class Distances:
    """Clusters of the N regions of a tag.

    Attributes:
        centres: (K, D) float32.
        cluster: (N,) int32, the nearest centre of each region.
        distance: (N,) float32 from it, at least 0.
        rank: (N,) float32 in 0..1: 0 the most typical region, 1 the farthest; a single one has 0.
        is_outlier: (N,) bool.
        typical: (M,) int64 regions that are nearest to their centre, some of each cluster, in turn, larger ones first.
    """

    centres: NDArray[np.float32]
    cluster: NDArray[np.int32]
    distance: NDArray[np.float32]
    rank: NDArray[np.float32]
    is_outlier: NDArray[np.bool_]
    typical: NDArray[np.int64]


def measure_regions(
    blocks: Iterable[NDArray[np.floating[Any]]],
    count: int,
    settings: CleaningSettings,
    scale: FeatureScale | None = None,
) -> Distances:
    """Cluster the regions of a tag and find the outliers among them.

    Args:
        blocks: (n, D) features, any floating type, N rows together. Iterated over twice, so no iterator.
        count: N.
        settings: how.
        scale: mean and deviation of the features; None: they are compared as they are.

    Returns:
        The same for the same rows and settings, whatever the sizes of the blocks.

    Raises:
        CleaningError: the blocks have another number of rows, differ in width or are not finite.
    """
    if iter(blocks) is blocks:
        raise CleaningError("blocks are read twice: give a list, or an object whose __iter__ begins anew")
    if not count:
        none = np.zeros(0, np.float32)
        return Distances(
            np.zeros((0, 0), np.float32),
            np.zeros(0, np.int32),
            none,
            none.copy(),
            np.zeros(0, np.bool_),
            np.zeros(0, np.int64),
        )
    prepare = unscaled if scale is None else scale.apply
    centres = _centres(_sample(blocks, count, settings, prepare), settings.clusters_of(count), settings.seed)
    cluster, distance = np.zeros(count, np.int32), np.zeros(count, np.float32)
    at = 0
    for block in _pieces(blocks):
        rows = prepare(block)
        end = at + len(rows)
        _check_rows(end, count)
        cluster[at:end], distance[at:end] = _nearest(rows, centres)
        at = end
    order = np.argsort(distance, kind="stable")
    rank = np.zeros(count, np.float32)
    rank[order] = np.arange(count) / max(1, count - 1)
    return Distances(
        centres, cluster, distance, rank, _outliers(distance, order, settings), _typical(cluster, order, settings)
    )


def _pieces(blocks: Iterable[NDArray[np.floating[Any]]]) -> Iterator[NDArray[np.floating[Any]]]:
    for block in blocks:
        for start in range(0, len(block), _ROWS):
            yield block[start : start + _ROWS]


def _check_rows(found: int, count: int) -> None:
    if found > count:
        raise CleaningError(f"the blocks have more rows than the {count:,} regions")


def _sample(
    blocks: Iterable[NDArray[np.floating[Any]]],
    count: int,
    settings: CleaningSettings,
    prepare: Callable[[NDArray[np.floating[Any]]], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Return at most ``settings.sample`` rows, chosen by their number alone."""
    chosen = np.arange(count)
    if count > settings.sample:
        chosen = np.sort(np.random.default_rng(settings.seed).choice(count, settings.sample, replace=False))
    kept: NDArray[np.float32] | None = None
    at = filled = 0
    for block in _pieces(blocks):
        end = at + len(block)
        _check_rows(end, count)
        until = int(np.searchsorted(chosen, end))
        rows = prepare(block[chosen[filled:until] - at])
        if kept is None:
            kept = np.zeros((len(chosen), rows.shape[1]), np.float32)
        elif kept.shape[1] != rows.shape[1]:
            raise CleaningError(f"features are {rows.shape[1]} wide, the first ones {kept.shape[1]}: of another model?")
        kept[filled:until] = rows
        at, filled = end, until
    if at != count or kept is None:
        raise CleaningError(f"the blocks have {at:,} rows for {count:,} regions")
    return kept


def _centres(rows: NDArray[np.float32], clusters: int, seed: int) -> NDArray[np.float32]:
    """(n, D) rows -> (K, D) centres; fewer than ``clusters`` where rows repeat."""
    clusters = min(clusters, len(rows))
    if clusters > 1:
        clusters = min(clusters, len(np.unique(rows, axis=0)))
    if clusters == 1:
        middle: NDArray[np.float32] = rows.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
        return middle
    from sklearn.cluster import KMeans  # noqa: PLC0415  (slow to load)

    # Several threads add up in any order, so the last digits would differ from run to run.
    with one_thread():
        found = KMeans(clusters, init="k-means++", n_init=_BEGINNINGS, random_state=seed).fit(rows)
    centres: NDArray[np.float32] = found.cluster_centers_.astype(np.float32)
    return centres


def _nearest(rows: NDArray[np.float32], centres: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(n, D) rows -> (n,) number of the nearest centre, (n,) distance from it."""
    squares = (centres**2).sum(axis=1) - 2 * (rows @ centres.T)  # (n, K), without the row's own square
    nearest = squares.argmin(axis=1).astype(np.int32)
    return nearest, np.linalg.norm(rows - centres[nearest], axis=1).astype(np.float32)


def _outliers(distance: NDArray[np.float32], order: NDArray[np.int64], settings: CleaningSettings) -> NDArray[np.bool_]:
    """Return whether each region is among the farthest ones; never more than the share of the settings."""
    count = len(distance)
    is_outlier = np.zeros(count, np.bool_)
    if count >= settings.min_regions:
        # A product such as 0.1 * 30 may come out a little below the whole number.
        most = int(np.floor(settings.outlier_share * count + 1e-9))
        farthest = order[count - most :]
        # Among pictures that are all alike none is far.
        is_outlier[farthest[distance[farthest] > np.median(distance)]] = True
    return is_outlier


def _typical(cluster: NDArray[np.int32], order: NDArray[np.int64], settings: CleaningSettings) -> NDArray[np.int64]:
    """Return the nearest region of each cluster, largest cluster first, then the second nearest of each, and so on."""
    sizes = np.bincount(cluster)
    of_cluster = cluster[order]
    found = []
    for largest in np.argsort(-sizes, kind="stable"):
        near = order[of_cluster == largest][: settings.typical]
        found += [(turn, -int(sizes[largest]), int(region)) for turn, region in enumerate(near)]
    return np.array([region for _, _, region in sorted(found)[: settings.typical]], np.int64)

"""Search a whole database for near copies: candidates by the hashes of what images show, confirmed by their vectors.

Groups are stars: every image is a near copy of the one in the middle, which has the most pixels. So no chain of slight
changes joins pictures that are unlike.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from storage.database import unit_of_work
from storage.index.hash_pairs import near_pairs
from storage.results import generations, near

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from sqlalchemy import Engine

    from storage.index.hash_pairs import HashPairs
    from storage.results.near import NearState, Thresholds

_READ_AT_ONCE = 100_000
_VECTORS_AT_ONCE = 5_000
_SCANS_EACH = 200
"""How often an image of a hash is compared with middles of the same hash, on average. Pictures whose hashes are equal
and that are unlike would be compared with each other: a million of them for weeks."""
_STILL_SECONDS = 5.0


class InterruptedSearchError(Exception):
    """The search was ended, or another process has taken it over."""


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
    sizes: NDArray[np.int64],
    vectors: NDArray[np.float16],
    pairs: tuple[NDArray[np.uint64], HashPairs],
    cosine: float,
    *,
    between: Callable[[], None] = lambda: None,
) -> Stars:
    """Group images around those with the most pixels; of equally many, the lowest id.

    Args:
        ids: (N,) ascending.
        hashes: (N,).
        sizes: (N,) pixels of each.
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
    for number, middle in enumerate(np.lexsort((ids, -sizes)).tolist()):
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


def search(engine: Engine, thresholds: Thresholds, goes_on: Callable[[], bool] = lambda: True) -> NearState | None:
    """Search all images for near copies, and store the groups in place of those before.

    Memory: some 200 bytes for each image. The vectors of images with a candidate are in a file.

    Args:
        engine: the database.
        thresholds: what near copies are.
        goes_on: asked every few seconds whether to go on.

    Returns:
        What was found; None: there is no image with a vector yet.

    Raises:
        InterruptedSearchError: ``goes_on`` said no. The groups are as before.
        ServiceUnavailableError: the database is unavailable. Likewise.
    """
    begun = said = time.monotonic()

    def between() -> None:
        nonlocal said
        if time.monotonic() - said > _STILL_SECONDS:
            said = time.monotonic()
            if not goes_on():
                raise InterruptedSearchError

    with unit_of_work(engine) as session:
        generation = generations.default(session)
        if generation is None:
            return None
        generation_id, size = generation.id, generation.vector_size
        watermark = near.watermark(session)
    ids, hashes = _hashes(engine, between)
    values, counts = np.unique(hashes, return_counts=True)
    pairs = near_pairs(values, thresholds.distance, between=between)
    has_candidate = counts > 1
    has_candidate[pairs.left] = has_candidate[pairs.right] = True
    candidates = np.flatnonzero(has_candidate[np.searchsorted(values, hashes)])
    lone = int(np.count_nonzero(pairs.is_common & (counts == 1)))
    with tempfile.TemporaryDirectory(prefix="ramq-near-") as folder:
        path = Path(folder) / "vectors"
        known, sizes = _write_vectors(engine, generation_id, ids[candidates], path, between)
        rows = candidates[known]
        vectors = (
            np.memmap(path, dtype="<f2", mode="r", shape=(len(rows), size))
            if len(rows)
            else np.empty((0, size), dtype=np.float16)
        )
        found = stars(ids[rows], hashes[rows], sizes, vectors, (values, pairs), thresholds.cosine, between=between)
    between()
    with unit_of_work(engine) as session:
        return near.store(
            session,
            near.Found(found.ids, found.groups, found.distances, found.cosines),
            near.Search(generation_id, thresholds, watermark, len(ids), found.common + lone, time.monotonic() - begun),
        )


def _hashes(engine: Engine, between: Callable[[], None]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the ids (N,) of all images with a hash whose originals are there, ascending, and the hashes (N,)."""
    ids: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    hashes: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    after: int | None = 0
    while after is not None:
        between()
        with unit_of_work(engine) as session:
            block = near.hashes(session, after, _READ_AT_ONCE)
        ids.append(block.ids)
        hashes.append(block.hashes)
        after = block.last
    return np.concatenate(ids), np.concatenate(hashes).view(np.uint64)


def _write_vectors(
    engine: Engine, generation_id: int, ids: NDArray[np.int64], path: Path, between: Callable[[], None]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Write the vectors of images to a file. Return which of the images have one, and how many pixels these have."""
    known: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    sizes: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    with path.open("wb") as file:
        for start in range(0, len(ids), _VECTORS_AT_ONCE):
            between()
            with unit_of_work(engine) as session:
                block = near.vectors(session, generation_id, ids[start : start + _VECTORS_AT_ONCE])
            file.writelines(block.vectors)
            known.append(np.searchsorted(ids, block.ids))
            sizes.append(block.pixels)
    return np.concatenate(known), np.concatenate(sizes)

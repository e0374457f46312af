"""Search a whole database for near copies, one process at a time, and store the groups."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from storage.database import unit_of_work
from storage.index.hash_pairs import near_pairs
from storage.index.near_groups import stars
from storage.results import generations, near_copies

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from numpy.typing import NDArray
    from sqlalchemy import Engine

    from storage.results.near_copies import NearState
    from storage.results.nearness import Thresholds

log = logging.getLogger(__name__)

_READ_AT_ONCE = 100_000
_VECTORS_AT_ONCE = 5_000
_SAID_SECONDS = 5.0
"""How often a search says that it is under way."""


class InterruptedSearchError(Exception):
    """The search was ended, or another process has taken it over."""


def search_if_due(engine: Engine, thresholds: Thresholds, goes_on: Callable[[], bool]) -> NearState | None:
    """Search as :func:`search_once`, if somebody asked for it, or images are newer and the last one is long ago."""
    with unit_of_work(engine) as session:
        generation = generations.default(session)
        if generation is None or not near_copies.is_due(session, thresholds, generation.id):
            return None
    return search_once(engine, thresholds, goes_on)


def search_once(engine: Engine, thresholds: Thresholds, goes_on: Callable[[], bool] = lambda: True) -> NearState | None:
    """Search for near copies now, unless another process does.

    Args:
        engine: the database.
        thresholds: what near copies are.
        goes_on: asked every few seconds whether to go on.

    Returns:
        What was found. None: another process is searching, the search was ended, or nothing was recorded yet.

    Raises:
        ServiceUnavailableError: the database is unavailable. The groups are as before.
    """
    with unit_of_work(engine) as session:
        said: datetime | None = near_copies.claim(session)
    if said is None:
        return None

    def is_still_ours() -> bool:
        nonlocal said
        if said is not None and goes_on():
            with unit_of_work(engine) as session:
                said = near_copies.go_on(session, said)
            return said is not None
        return False

    try:
        found = search(engine, thresholds, is_still_ours)
    except InterruptedSearchError:
        log.info("the search for near copies was ended")
        return None
    finally:
        if said is not None:
            with unit_of_work(engine) as session:
                near_copies.give_up(session, said)
    return found


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
        if time.monotonic() - said > _SAID_SECONDS:
            said = time.monotonic()
            if not goes_on():
                raise InterruptedSearchError

    with unit_of_work(engine) as session:
        generation = generations.default(session)
        if generation is None:
            return None
        generation_id, size = generation.id, generation.vector_size
        watermark = near_copies.watermark(session)
    ids, hashes = _hashes(engine, between)
    values, counts = np.unique(hashes, return_counts=True)
    pairs = near_pairs(values, thresholds.distance, between=between)
    has_candidate = counts > 1
    has_candidate[pairs.left] = has_candidate[pairs.right] = True
    candidates = np.flatnonzero(has_candidate[np.searchsorted(values, hashes)])
    lone = int(np.count_nonzero(pairs.is_common & (counts == 1)))
    with tempfile.TemporaryDirectory(prefix="ramq-near-") as folder:
        path = Path(folder) / "vectors"
        known, pixels, size_bytes, taken_at = _write_vectors(engine, generation_id, ids[candidates], path, between)
        rows = candidates[known]
        order = np.lexsort((ids[rows], taken_at, -size_bytes, -pixels))
        vectors = (
            np.memmap(path, dtype="<f2", mode="r", shape=(len(rows), size))
            if len(rows)
            else np.empty((0, size), dtype=np.float16)
        )
        found = stars(ids[rows], hashes[rows], order, vectors, (values, pairs), thresholds.cosine, between=between)
    between()
    common, seconds = found.common + lone, time.monotonic() - begun
    with unit_of_work(engine) as session:
        return near_copies.store(
            session,
            near_copies.Found(found.ids, found.groups, found.distances, found.cosines),
            near_copies.Search(generation_id, thresholds, watermark, len(ids), common, seconds),
        )


def _hashes(engine: Engine, between: Callable[[], None]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the ids (N,) of all images with a hash whose originals are there, ascending, and the hashes (N,)."""
    ids: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    hashes: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    after: int | None = 0
    while after is not None:
        between()
        with unit_of_work(engine) as session:
            block = near_copies.hashes(session, after, _READ_AT_ONCE)
        ids.append(block.ids)
        hashes.append(block.hashes)
        after = block.last
    return np.concatenate(ids), np.concatenate(hashes).view(np.uint64)


def _write_vectors(
    engine: Engine, generation_id: int, ids: NDArray[np.int64], path: Path, between: Callable[[], None]
) -> NDArray[np.int64]:
    """Write the vectors of images to a file.

    Returns:
        (4, N): which of the images have one, and of these the pixels, the bytes, and when they were taken.
    """
    found: list[NDArray[np.int64]] = [np.empty((4, 0), dtype=np.int64)]
    with path.open("wb") as file:
        for start in range(0, len(ids), _VECTORS_AT_ONCE):
            between()
            with unit_of_work(engine) as session:
                block = near_copies.vectors(session, generation_id, ids[start : start + _VECTORS_AT_ONCE])
            file.writelines(block.vectors)
            found.append(np.stack([np.searchsorted(ids, block.ids), block.pixels, block.size_bytes, block.taken_at]))
    return np.concatenate(found, axis=1)

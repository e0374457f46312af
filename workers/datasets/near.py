"""What tells near copies of the pictures of a version: vectors, written to a file that may be larger than memory."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import structlog

from storage.database import unit_of_work
from storage.datasets import items
from storage.index.manifest import DamagedError
from storage.results import features, generations
from workers.messages import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from storage.results.features import Kept
    from workers.datasets.phase import Tools

log = structlog.get_logger()

THRESHOLDS = {"pooled": 0.9, "vector": 0.97}
"""The least cosine of near copies, by what is compared; see ``benchmarks/bench_near_copies.py``."""
HASH_BYTES = 32
_BLOCK = 5_000


@dataclass(frozen=True, slots=True)
class Contents:
    """What tells the content of the pictures of a version.

    Attributes:
        ids: (N,) of images, ascending.
        hashes: (N,) the SHA-256 of each; empty: not known.
        rows: (M,) which pictures have a vector, as positions in ``ids``.
        size: length of a vector.
        kind: what the vectors are: ``pooled`` or ``vector``.
    """

    ids: NDArray[np.int64]
    hashes: NDArray[np.bytes_]
    rows: NDArray[np.int64]
    size: int
    kind: str


class _LackingError(Exception):
    """A picture has no pooled features."""


def write_vectors(tools: Tools, version_id: int, generation_id: int, path: Path) -> Contents:
    """Write the vectors of the pictures of a version to a file, as float16, and return what else tells their content.

    ``lite`` keeps means over the picture, which tell copies far better than its vector, a mean of the classes that it
    sees. They are taken if every picture has them.
    """
    with unit_of_work(tools.engine) as session:
        model = generations.get(session, generation_id).model
    if kind_of(model) == "lite":
        try:
            return _written(tools, version_id, generation_id, path, "pooled")
        except _LackingError:
            pass
        except DamagedError as error:
            log.warning("kept features cannot be read: vectors are compared instead", error=str(error))
    return _written(tools, version_id, generation_id, path, "vector")


def _written(tools: Tools, version_id: int, generation_id: int, path: Path, kind: str) -> Contents:
    # Plain numbers: of a million pictures, lists of objects would have hundreds of megabytes.
    ids, rows, hashes = array("q"), array("q"), bytearray()
    size = 0
    with path.open("wb") as file:
        for image_id, kept in _kept(tools, version_id, generation_id):
            if kept is not None:
                vector = _pooled(tools, kept) if kind == "pooled" else kept.vector
                file.write(vector)
                rows.append(len(ids))
                size = len(vector) // 2
            ids.append(image_id)
            hashes += (kept and kept.sha256) or bytes(HASH_BYTES)
    told = np.frombuffer(bytes(hashes), dtype=f"S{HASH_BYTES}")
    return Contents(np.array(ids, dtype=np.int64), told, np.array(rows, dtype=np.int64), size, kind)


def _kept(tools: Tools, version_id: int, generation_id: int) -> Iterator[tuple[int, Kept | None]]:
    """Yield the pictures of a version by id, with what is kept of these bytes."""
    after = 0
    while True:
        tools.go_on()
        with unit_of_work(tools.engine) as session:
            block = items.after(session, version_id, after, _BLOCK)
            found = features.kept(session, generation_id, [item.image_id for item in block])
        if not block:
            return
        for item in block:
            kept = found.get(item.image_id)
            yield item.image_id, kept if kept is not None and kept.version == item.version else None
        after = block[-1].image_id


def _pooled(tools: Tools, kept: Kept) -> bytes:
    from ram_core.features import unpack_pooled  # noqa: PLC0415  (torch; not every worker of data sets needs it)
    from ram_core.lite.network import SIZES  # noqa: PLC0415

    if kept.file is None or kept.position is None:
        raise _LackingError
    try:
        parts = unpack_pooled(tools.files.row(kept.file, kept.position)[np.newaxis], SIZES)
    except ValueError as error:
        raise _LackingError from error
    whole = np.concatenate([part[0] / max(float(np.linalg.norm(part[0])), 1e-12) for part in parts])
    return (whole / max(float(np.linalg.norm(whole)), 1e-12)).astype("<f2").tobytes()

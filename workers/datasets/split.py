"""Phase ``split``: which pictures are for validation. Copies and near copies are always in one split.

Pictures are grouped by the hash of their bytes, and by the cosine of their vectors. Where a group goes depends on its
content alone, so that it goes there again in another data set. Two rules come first: a picture of the parent version
keeps its split, and a group that joins both is for validation.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.database import unit_of_work
from storage.datasets import items, sources, versions
from storage.index.near_copies import connected, groups

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.datasets.sources import Content
    from storage.datasets.tasks import Task
    from storage.datasets.versions import VersionView
    from workers.datasets.phase import Tools, Write

NEAR = 0.97
VALIDATION = 0.1
"""The defaults of the settings ``near`` and ``validation``."""
_BLOCK = 20_000
_HASH_BYTES = 32
_UNSPLIT, _TRAINING, _VALIDATION = 0, 1, 2


class Split:
    """Groups and splits all pictures of a version: one task."""

    def is_ready(self, _session: Session, _version: VersionView) -> str | None:
        """It waits for nothing."""
        return None

    def plan(self, _session: Session, _version: VersionView) -> Sequence[dict[str, Any]]:
        """One task."""
        return [{}]

    def run(self, tools: Tools, version: VersionView, _task: Task) -> Write:
        """Find copies and near copies, and decide."""
        ids, hashes, group, unknown = _grouped(tools.engine, version)
        former = _former(tools.engine, version, ids)
        is_validation = split(group, hashes, former, version.settings.get("validation", VALIDATION))

        def write(session: Session) -> dict[str, Any]:
            for start in range(0, len(ids), _BLOCK):
                block = slice(start, start + _BLOCK)
                items.set_splits(
                    session,
                    version.id,
                    ids[block].tolist(),
                    ids[group[block]].tolist(),
                    is_validation[block].tolist(),
                )
            versions.add_counts(session, version.id, {"without_hash": unknown})
            return {"images": len(ids), "validation": int(is_validation.sum())}

        return write


def split(
    group: NDArray[np.int64], hashes: NDArray[np.bytes_], former: NDArray[np.int8], share: float
) -> NDArray[np.bool_]:
    """Return which pictures are for validation, (N,).

    Args:
        group: (N,) the lowest row of the group of each picture.
        hashes: (N,) 32 bytes that tell its content.
        former: (N,) its split in the parent version: 0 none, 1 training, 2 validation.
        share: about how much of the pictures is for validation, 0..1.
    """
    count = len(group)
    before = np.zeros(count, dtype=np.int8)
    np.maximum.at(before, group, former)
    # The lowest hash stands for the group: pictures sorted by group and hash, the first of each group.
    order = np.lexsort((hashes, group))
    firsts = order[np.unique(group[order], return_index=True)[1]]
    chosen = np.zeros(count, dtype=bool)
    for row in firsts.tolist():
        digest = hashlib.sha256(b"split" + hashes[row]).digest()
        chosen[group[row]] = int.from_bytes(digest[:8], "big") < share * 2**64
    by_group = np.where(before == _UNSPLIT, chosen, before == _VALIDATION)
    return by_group[group]


def _grouped(
    engine: Engine, version: VersionView
) -> tuple[NDArray[np.int64], NDArray[np.bytes_], NDArray[np.int64], int]:
    """Return all ids, what tells the pictures' content, the lowest rows of their groups, and how many lack a hash."""
    ids: list[NDArray[np.int64]] = []
    hashes: list[bytes] = []
    with tempfile.TemporaryDirectory(prefix="ramq-split-") as folder:
        path = Path(folder) / "vectors"
        rows: list[NDArray[np.int64]] = []
        size = count = unknown = 0
        with path.open("wb") as file:
            for block in _blocks(engine, version):
                ids.append(np.array([each.image_id for each in block], dtype=np.int64))
                hashes.extend(_hash(each) for each in block)
                unknown += sum(each.sha256 is None for each in block)
                has = [n for n, each in enumerate(block) if each.vector is not None]
                rows.append(np.array(has, dtype=np.int64) + count)
                for n in has:
                    vector = block[n].vector or b""
                    size = len(vector) // 2
                    file.write(vector)
                count += len(block)
        if not count:
            nothing = np.empty(0, dtype=np.int64)
            return nothing, np.empty(0, dtype=f"S{_HASH_BYTES}"), nothing, 0
        told = np.array(hashes, dtype=f"S{_HASH_BYTES}")
        edges = [_same(told)]
        with_vector = np.concatenate(rows)
        if len(with_vector):
            vectors = np.memmap(path, dtype="<f2", mode="r", shape=(len(with_vector), size))
            near = groups(vectors, version.settings.get("near", NEAR))
            edges.append(np.stack([with_vector, with_vector[near]], axis=1))
            del vectors
    return np.concatenate(ids), told, connected(count, np.concatenate(edges)), unknown


def _hash(content: Content) -> bytes:
    """Return what tells the content of a picture. Of one that an older version of ramq recognised, only the image."""
    return content.sha256 or hashlib.sha256(b"image %d" % content.image_id).digest()


def _same(hashes: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Return edges (E, 2) between pictures with the same hash."""
    _, firsts, group = np.unique(hashes, return_index=True, return_inverse=True)
    return np.stack([np.arange(len(hashes)), firsts[group]], axis=1).astype(np.int64)


def _blocks(engine: Engine, version: VersionView) -> Iterator[list[Content]]:
    after = 0
    while True:
        with unit_of_work(engine) as session:
            block = sources.contents(session, version.id, version.settings["generation"], after, _BLOCK)
        if not block:
            return
        yield block
        after = block[-1].image_id


def _former(engine: Engine, version: VersionView, ids: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return the split of each image in the parent version, or as it was imported: 0 none, 1 training, 2 validation."""
    former = np.zeros(len(ids), dtype=np.int8)
    for version_id in filter(None, (version.parent_id, version.id if version.settings.get("keeps_splits") else None)):
        with unit_of_work(engine) as session:
            for image_id, is_validation in items.splits_of(session, version_id):
                at = int(np.searchsorted(ids, image_id))
                if at < len(ids) and ids[at] == image_id:
                    former[at] = _VALIDATION if is_validation else max(former[at], _TRAINING)
    return former

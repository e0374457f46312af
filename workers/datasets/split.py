"""Phase ``split``: which pictures are for validation. Copies and near copies are always in one split.

Pictures are grouped by the hash of their bytes, and by the cosine of what ``near`` finds of them. Where a group goes
depends on its content alone, so that it goes there again in another data set. Two rules come first: a picture of the
parent version keeps its split, and a group that joins both is for validation.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.database import unit_of_work
from storage.datasets import items, versions
from storage.index.near_copies import connected, groups
from workers.datasets.near import THRESHOLDS, write_vectors
from workers.datasets.phase import Phase

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.datasets.tasks import Task
    from storage.datasets.versions import VersionView
    from workers.datasets.near import Contents
    from workers.datasets.phase import Tools, Write

VALIDATION = 0.1
"""The default of the setting ``validation``."""
_BLOCK = 20_000
_UNSPLIT, _TRAINING, _VALIDATION = 0, 1, 2


class Split(Phase):
    """Groups and splits all pictures of a version: one task."""

    def run(self, tools: Tools, version: VersionView, _task: Task) -> Write:
        """Find copies and near copies, and decide."""
        contents, hashes, group = _grouped(tools, version)
        ids = contents.ids
        former = _former(tools.engine, version, ids)
        is_validation = split(group, hashes, former, version.settings.get("validation", VALIDATION))

        def write(session: Session) -> dict[str, Any]:
            # The row of the version first: whoever deletes images locks it before pictures of versions.
            lacking = int(np.count_nonzero(contents.hashes == b""))
            versions.add_counts(session, version.id, {"without_hash": lacking, "compared_by": contents.kind})
            for start in range(0, len(ids), _BLOCK):
                block = slice(start, start + _BLOCK)
                items.set_splits(
                    session,
                    version.id,
                    ids[block].tolist(),
                    ids[group[block]].tolist(),
                    is_validation[block].tolist(),
                )
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


def _grouped(tools: Tools, version: VersionView) -> tuple[Contents, NDArray[np.bytes_], NDArray[np.int64]]:
    """Return the pictures, what tells the content of each, and the lowest rows of their groups."""
    with tempfile.TemporaryDirectory(prefix="ramq-split-") as folder:
        path = Path(folder) / "vectors"
        contents = write_vectors(tools, version.id, version.settings["generation"], path)
        told = contents.hashes.copy()
        for row in np.flatnonzero(told == b""):
            told[row] = _of_image(contents.ids[row])
        edges = [_same(told)]
        if len(contents.rows):
            vectors = np.memmap(path, dtype="<f2", mode="r", shape=(len(contents.rows), contents.size))
            least = version.settings.get("near") or THRESHOLDS[contents.kind]
            # Of the same bytes, one is enough to compare.
            chosen = np.sort(np.unique(told[contents.rows], return_index=True)[1])
            near = groups(vectors, least, rows=chosen, between=tools.go_on)
            edges.append(np.stack([contents.rows, contents.rows[near]], axis=1))
            del vectors
    return contents, told, connected(len(contents.ids), np.concatenate(edges))


def _of_image(image_id: int) -> bytes:
    """Return what stands for the content of a picture that an older version of ramq recognised."""
    return hashlib.sha256(b"image %d" % image_id).digest()


def _same(hashes: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Return edges (E, 2) between pictures with the same hash."""
    _, firsts, group = np.unique(hashes, return_index=True, return_inverse=True)
    return np.stack([np.arange(len(hashes)), firsts[group]], axis=1).astype(np.int64)


def _former(engine: Engine, version: VersionView, ids: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return the split of each image in the parent version, or as it was imported: 0 none, 1 training, 2 validation."""
    former = np.zeros(len(ids), dtype=np.int8)
    for version_id in filter(None, (version.parent_id, version.id if version.counts.get("keeps_splits") else None)):
        with unit_of_work(engine) as session:
            for image_id, is_validation in items.splits_of(session, version_id):
                at = int(np.searchsorted(ids, image_id))
                if at < len(ids) and ids[at] == image_id:
                    former[at] = _VALIDATION if is_validation else max(former[at], _TRAINING)
    return former

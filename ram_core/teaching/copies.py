"""Which pictures are copies of one another: they count as one where heads are judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_AT_ONCE = 512


def groups_of(vectors: NDArray[np.float32], hashes: Sequence[bytes | None], near: float) -> NDArray[np.int64]:
    """Return (N,) the group of each picture: 0, 1 and so on, the same for copies and copies of copies.

    Args:
        vectors: (N, F) what tells their content.
        hashes: the SHA-256 of each file; None: not known.
        near: pictures with a cosine of at least this are copies. A vector of nothing has no copies.
    """
    from scipy.sparse import coo_array  # noqa: PLC0415  (slow to load)
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    count, first = len(vectors), dict[bytes, int]()
    same = [(at, first.setdefault(each, at)) for at, each in enumerate(hashes) if each is not None]
    ones, others = [np.array([pair[side] for pair in same], dtype=np.int64) for side in (0, 1)]
    pairs = [(ones, others)]
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    for at in range(0, count, _AT_ONCE):
        rows, columns = np.nonzero(unit[at : at + _AT_ONCE] @ unit[: at + _AT_ONCE].T >= near)
        pairs.append((rows + at, columns))
    rows, columns = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    links = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(count, count))
    groups: NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    return groups

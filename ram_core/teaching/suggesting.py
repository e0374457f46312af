"""Which pictures to label next: those that a head is least sure of, and that differ from one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

_CANDIDATES = 8
"""Of this many times the wanted pictures, all of them unsure, the ones that differ most are taken."""


@dataclass(frozen=True, slots=True)
class Suggested:
    """A picture to label, and its score; 0.5 is the threshold."""

    image_id: int
    score: float


def suggest(
    blocks: Iterable[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]],
    named: NDArray[np.float32],
    count: int,
) -> list[Suggested]:
    """Return pictures to label next, the least certain first.

    Memory is bounded: of all blocks, ``_CANDIDATES`` rows are kept for each wanted picture.

    Args:
        blocks: image ids (B,), their inputs (B, F) and the logits of a head (B,), 0 at its threshold.
        named: (N, F) inputs of the pictures that are labelled already.
        count: how many.
    """
    most = _CANDIDATES * count
    ids = np.empty(0, dtype=np.int64)
    x = np.empty((0, named.shape[1]), dtype=np.float32)
    logits = np.empty(0, dtype=np.float32)
    for some_ids, some_x, some_logits in blocks:
        ids = np.concatenate([ids, some_ids])
        logits = np.concatenate([logits, some_logits])
        x = np.concatenate([x, some_x])
        order = np.lexsort((ids, np.abs(logits)))[:most]
        ids, x, logits = ids[order], x[order], logits[order]
    chosen = _farthest_first(x, named, np.abs(logits), count)
    order = chosen[np.argsort(np.abs(logits[chosen]), kind="stable")]
    return [Suggested(int(ids[i]), float(1 / (1 + np.exp(-float(np.clip(logits[i], -60, 60)))))) for i in order]


def _farthest_first(
    x: NDArray[np.float32], named: NDArray[np.float32], doubt: NDArray[np.float32], count: int
) -> NDArray[np.int64]:
    """Return positions of rows, each the farthest from those before it and from ``named`` (k-center, greedy).

    The first one is the least certain, which ``x`` begins with.
    """
    if not len(x):
        return np.empty(0, dtype=np.int64)
    nearest = np.full(len(x), np.inf, dtype=np.float32)
    for row in named:
        nearest = np.minimum(nearest, ((x - row) ** 2).sum(axis=1))
    chosen = [int(np.argmin(doubt))]
    while len(chosen) < min(count, len(x)):
        nearest = np.minimum(nearest, ((x - x[chosen[-1]]) ** 2).sum(axis=1))
        nearest[chosen] = -1
        chosen.append(int(np.argmax(nearest)))
    return np.array(chosen, dtype=np.int64)

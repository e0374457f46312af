"""Search the lists of large parts, all parts together.

Each part names the rows in the lists nearest to the query, with a score estimated from one bit per dimension. The best
of these estimates, of all parts, are scored again with the float16 vectors. These lie scattered over files that may be
larger than memory, so each of them may cost a read: five parts together need fewer than half as many as each by itself.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from storage.index.bitmaps import bitmap_of, rows_in
from storage.index.mapped import disk_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray
    from pyroaring import BitMap


Found = tuple["NDArray[np.int64]", "NDArray[np.float32]"]
"""(Row numbers, inner products), best first."""
TUNED_K = 10
"""The effort of a search is tuned for this many hits."""

DEPTH_POWER = 0.7
"""For ``n * TUNED_K`` hits, lists and candidates grow by ``n`` to this power, which keeps the recall."""

PARTS_POWER = 0.5
"""For ``n`` parts, candidates grow by ``n`` to this power: 1 finds no more (``benchmarks/bench_ann.py --parts``)."""

SCANNED_PER_CANDIDATE = 30
"""Scanning this many rows takes as long as finding one candidate by lists and scoring it."""

RANK_SPREAD = 2.0
"""Allowed standard deviations of the rank that the last of ``k`` selected rows has among all rows."""

DEEPER = 4
"""If that rank was not enough, this many times as many rows are searched for."""


class Listed(Protocol):
    """Vectors in lists: see ``vectors.Vectors``, which has these methods."""

    def __len__(self) -> int: ...

    @property
    def candidates(self) -> int:
        """Number of rows to score again for the best ``TUNED_K``."""

    def near(self, query: NDArray[np.float32], depth: float) -> Found:
        """Return candidates from the lists nearest to ``query`` (D,), with estimated scores."""

    def fetch(self, rows: NDArray[Any]) -> None:
        """Begin to read the vectors of these rows."""

    def learn(self, disk_bytes: int) -> None:
        """Note how much was read from disk for rows that were fetched."""

    def best_among(self, rows: NDArray[Any], query: NDArray[np.float32], k: int, *, is_fetched: bool) -> Found:
        """Return the best of these rows, with their scores."""


Part = TypeVar("Part", bound=Listed)

Selected = tuple[Part, "BitMap | None"]
"""A part with lists, and which of its rows to choose from; None: all."""


def look_up(
    parts: Sequence[Selected[Part]],
    query: NDArray[np.float32],
    k: int,
    of_each: Callable[[Callable[[Part], Found], Iterable[Part]], Iterable[Found]] = map,
) -> list[Found] | None:
    """Return the best ``k`` selected rows of all parts together, as those of each part; None if scans are faster.

    The best of all rows are searched for, in a number at which ``k`` selected rows should be among them. If they are,
    they are the best of the selection, even if selection and query are correlated. If not, more are searched for.

    Args:
        parts: at least one, each with at least one selected row.
        query: (D,).
        k: at least 1. If fewer rows are selected, all of them.
        of_each: like ``map``; may work on several parts at the same time.
    """
    rows = sum(len(vectors) if selected is None else len(selected) for vectors, selected in parts)
    k = min(k, rows)
    share = rows / sum(len(vectors) for vectors, _ in parts)
    # Each row is selected with probability ``share``: mean and deviation of a negative binomial distribution.
    rank = (k + RANK_SPREAD * sqrt(k * (1 - share))) / share
    tuned = max(vectors.candidates for vectors, _ in parts) * len(parts) ** PARTS_POWER
    while True:
        depth = max(1.0, rank / TUNED_K) ** DEPTH_POWER
        candidates = int(tuned * depth)
        if candidates * SCANNED_PER_CANDIDATE > rows:
            return None

        def near(vectors: Part, depth: float = depth) -> Found:
            return vectors.near(query, depth)

        found = _best(list(of_each(near, [vectors for vectors, _ in parts])), candidates)
        before = disk_bytes()
        for (vectors, _), (places, _) in zip(parts, found, strict=True):
            vectors.fetch(places)
        scored = [
            vectors.best_among(places, query, ceil(rank), is_fetched=True)
            for (vectors, _), (places, _) in zip(parts, found, strict=True)
        ]
        for vectors, _ in parts:
            vectors.learn(disk_bytes() - before)
        kept = [_only(selected, best) for (_, selected), best in zip(parts, _best(scored, ceil(rank)), strict=True)]
        if sum(len(places) for places, _ in kept) >= k:
            return _best(kept, k)
        rank *= DEEPER


def _best(found: list[Found], count: int) -> list[Found]:
    """Return what is left in each part if only the best ``count`` of all are kept."""
    scores = np.concatenate([scores for _, scores in found])
    if len(scores) <= count:
        return found
    is_kept = np.zeros(len(scores), dtype=np.bool_)
    is_kept[np.argsort(-scores, kind="stable")[:count]] = True
    kept, start = [], 0
    for rows, scores in found:
        here = is_kept[start : start + len(rows)]
        kept.append((rows[here], scores[here]))
        start += len(rows)
    return kept


def _only(selected: BitMap | None, found: Found) -> Found:
    if selected is None:
        return found
    rows, scores = found
    is_selected: NDArray[Any] = np.isin(rows, rows_in(selected & bitmap_of(rows.astype(np.uint32))))
    return rows[is_selected], scores[is_selected]

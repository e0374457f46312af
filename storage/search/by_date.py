"""Hits in the order in which they were taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from storage.results.metadata_search import UNDATED
from storage.search.orders import Ranked, Taken

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from storage.index.selection import Selection
    from storage.results.metadata_search import Columns

_LAST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ByDate:
    """By the date in the file, the newest first or the oldest. Images without a date are behind all others.

    Of equal dates, the image that was listed last is first, or the other way round.

    Attributes:
        found: the images.
        columns: the dates of all images.
        is_oldest_first: the direction.
    """

    cursor_length: ClassVar[int] = 2
    ranked_by: ClassVar[tuple[tuple[str, str, int], ...]] = ()
    found: Selection
    columns: Columns
    is_oldest_first: bool

    def take(self, after: tuple[int, ...] | None, k: int) -> Taken:
        """Return the next images. The position is the place of the last one's date, and its id."""
        ids = self.found.ids()
        ranks = self._ranks(ids)
        total = len(ids)
        if after is not None:
            is_later = ids > after[1] if self.is_oldest_first else ids < after[1]
            is_next = (ranks > after[0]) | ((ranks == after[0]) & is_later)
            ids, ranks = ids[is_next], ranks[is_next]
        if len(ids) > k:
            # All that are as good as the last one that is wanted, since ids decide among them.
            is_near = ranks <= np.partition(ranks, k - 1)[k - 1]
            ids, ranks = ids[is_near], ranks[is_near]
        order = np.lexsort((ids if self.is_oldest_first else -ids, ranks))[:k]
        pairs = zip(ids[order].tolist(), ranks[order].tolist(), strict=True)
        return Taken([Ranked(image_id, 0.0, (rank, image_id)) for image_id, rank in pairs], total)

    def _ranks(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return (N,) numbers that grow along the order."""
        taken = self.columns.taken_of(ids)
        return np.where(taken == UNDATED, _LAST, taken if self.is_oldest_first else _LAST - 1 - taken)

"""Images in the order of a vector, as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from storage.index.selection import Selection


class Listed(NamedTuple):
    """The first images of an order by a vector.

    Attributes:
        ids: (N,) the images.
        scores: (N,) the numbers that rank.
        cosines: (N,) with the vector.
        is_complete: whether these are all images of the order.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    cosines: NDArray[np.float32]
    is_complete: bool

    def without(self, image_id: int | None) -> Listed:
        """Return the same without an image."""
        others = self.ids != image_id
        return Listed(self.ids[others], self.scores[others], self.cosines[others], self.is_complete)

    def before(self, found: Selection, vector: NDArray[np.float32], last: NDArray[np.int64]) -> Listed:
        """Return the same, if it is complete, with further images of ``found`` behind all others."""
        ids = np.setdiff1d(last, self.ids) if self.is_complete else last[:0]
        if not len(ids):
            return self
        cosines = found.cosines(vector, ids)
        order = np.lexsort((ids, -cosines))
        ids, cosines = ids[order], cosines[order]
        scores = np.minimum(cosines, self.scores[-1]) if len(self.scores) else cosines
        return Listed(
            np.concatenate([self.ids, ids]),
            np.concatenate([self.scores, scores]),
            np.concatenate([self.cosines, cosines]),
            is_complete=True,
        )


class Sure(NamedTuple):
    """Images that have what a text names because a person said so.

    Attributes:
        ids: (N,) best first.
        scores: (N,) the mean scores of the named tags, 0 to 1.
        least: their cosines count as at least this one, that of the nearest image without the tags. With the share for
            their tags they are before all images that merely resemble the text.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    least: float

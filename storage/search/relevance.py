"""The relevance cutoff of a search by vectors: the floor of each generation, measured on its own images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from storage.index.bitmaps import rows_in
from storage.results.tag_names import spread
from storage.search.ranking import SAMPLE, Background

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from storage.index.index import View

_GROWTH = 2  # an archive that doubled may have other content


class Cutoffs:
    """Minimum similarities of images to a text or an image.

    Thread-safe; two threads that measure one background get the same.
    """

    def __init__(self) -> None:
        self._backgrounds: dict[tuple[int, bool], tuple[int, Background]] = {}

    def of_text(self, view: View, names: NDArray[np.float32] | None, relevance: float) -> float:
        """Return the minimum cosine of an image that is relevant to a text.

        Args:
            view: its images are a sample for the background, until there are twice as many.
            names: (M, D) unit vectors of names of tags; None: no floor.
            relevance: share of the background that is less similar, 0 to 1; 0: no floor.
        """
        if names is None or not len(names):
            return -np.inf
        return self._floor(view, names, relevance)

    def of_image(self, view: View, relevance: float) -> float:
        """Return the minimum cosine of an image that is like another one, more than this share of all pairs are."""
        return self._floor(view, None, relevance)

    def _floor(self, view: View, names: NDArray[np.float32] | None, relevance: float) -> float:
        in_parts = sum(part.live_count for part in view.parts)
        count = in_parts if view.remote is None else in_parts + len(view.remote.select(None))
        if relevance <= 0 or count < (2 if names is None else 1):
            return -np.inf
        key = view.generation_id, names is None
        measured, background = self._backgrounds.get(key, (0, None))
        if background is None or not measured / _GROWTH < count < measured * _GROWTH:
            vectors = _some_vectors(view, in_parts, count)
            background = Background.of_pairs(vectors) if names is None else Background.of(vectors, names)
            self._backgrounds[key] = count, background
        return background.floor(relevance)


def _some_vectors(view: View, in_parts: int, count: int) -> NDArray[np.float32]:
    """Return (S, D) vectors, evenly spaced among the ``count`` images of a view; ``in_parts`` of them are in parts."""
    wanted, begin, found = spread(count, SAMPLE), 0, []
    if view.remote is not None and count > in_parts:
        found.append(view.remote.sample(int(np.count_nonzero(wanted >= in_parts))))
    for part in view.parts:
        here = wanted[(wanted >= begin) & (wanted < begin + part.live_count)] - begin
        if len(here):
            rows = here if part.live is None else rows_in(part.live)[here]
            found.append(part.vectors.codes(rows).astype(np.float32))
        begin += part.live_count
    return np.concatenate(found)

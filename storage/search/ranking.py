"""How a search by text ranks: by vectors, by the tags that the text names, and down to a minimum similarity.

These are pure functions over numbers. ``storage.search`` loads their input. ``benchmarks/bench_ranking.py`` measures
each choice made here on labelled images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TAG_WEIGHT = 0.1
"""Weight of the mean score of the tags that a text names, when it is added to an image's cosine. Among 0.02, 0.05, 0.1,
0.2 and 0.5 it is the best on the stamps of ``benchmarks/bench_ranking.py``. On the photographs they hardly differ."""
SAMPLE = 256
"""Images, and names, for measuring the background: 65,536 pairs, of which only the nearest 5 % matter."""
DEFAULT_RELEVANCE = 0.95
"""Chosen on the stamps of ``benchmarks/bench_ranking.py``: nine in ten of the right images in the top ten remain, and
texts without an answer find almost nothing. The photographs there agree."""
NOT_THIS = np.float32(0.3)
"""Share of the mean vector of the images that are not meant which is subtracted from the vector of the image to be
similar to. Of the shares in ``benchmarks/bench_not_this.py`` it has the best mean on the stamps; photographs agree."""


def away(vector: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a vector (D,) of length 1, turned away from the mean of others (N, D): images near those are further away.

    Source: Rocchio, Relevance feedback in information retrieval (1971), without positive examples.
    """
    turned = vector - NOT_THIS * others.mean(axis=0)
    unit: NDArray[np.float32] = (turned / np.linalg.norm(turned)).astype(np.float32)
    return unit


@dataclass(frozen=True, slots=True)
class Background:
    """Similarities of unrelated things: cosines of images with names of tags, or of images with each other.

    An image shows a handful of the tags, so nearly all pairs are of an image and something else. The distribution is
    measured from an archive's own vectors, so it fits every model, whatever the range of its cosines.

    Attributes:
        quantiles: the 0, 0.001 .. 1 quantiles of the cosines, ascending.
    """

    quantiles: NDArray[np.float32]

    @classmethod
    def of(cls, vectors: NDArray[np.float32], names: NDArray[np.float32]) -> Background:
        """Measure the background.

        Args:
            vectors: (S, D) unit vectors of some images, at least one.
            names: (M, D) unit vectors of the names of some tags, at least one, from the text encoder.
        """
        return cls(np.quantile(vectors @ names.T, np.linspace(0, 1, 1001)).astype(np.float32))

    @classmethod
    def of_pairs(cls, vectors: NDArray[np.float32]) -> Background:
        """Measure the background of images among each other: of the pairs of (S, D) unit vectors, at least two."""
        one, other = np.triu_indices(len(vectors), k=1)
        return cls(np.quantile((vectors @ vectors.T)[one, other], np.linspace(0, 1, 1001)).astype(np.float32))

    def floor(self, relevance: float) -> float:
        """Return the cosine below which a share ``relevance`` (0 to 1) of the pairs lies; minus infinity for 0."""
        if relevance <= 0:
            return -np.inf
        return float(np.interp(relevance, np.linspace(0, 1, len(self.quantiles)), self.quantiles))

"""How a search by text ranks: the tags that the text names beside the nearest vectors, and where the list should end.

Pure functions over numbers; ``storage.search`` fetches what they need. ``benchmarks/bench_ranking.py`` measures each
choice made here on labelled pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TAG_WEIGHT = 0.1
"""What share of its mean score of the tags that a text names is added to an image's cosine. Among 0.02, 0.05, 0.1, 0.2
and 0.5 the best on the stamps of ``benchmarks/bench_ranking.py``; on the photographs they hardly differ."""
SAMPLE = 256
"""Pictures, and names, that the background is measured with: 65,536 pairs, of which only the 5 % nearest matter."""
DEFAULT_RELEVANCE = 0.95
"""Chosen on the stamps of ``benchmarks/bench_ranking.py``, where nine in ten of the right pictures among the first ten
stay and texts without an answer find next to nothing; the photographs there agree."""


@dataclass(frozen=True, slots=True)
class Background:
    """How alike things are that have nothing to do with each other: cosines of pictures with the names of tags.

    A picture shows a handful of the tags; nearly all of the pairs are of a picture and something else. The
    distribution is measured from an archive's own vectors, so it fits every model, whatever range its cosines have.

    Attributes:
        quantiles: the cosines that 0, 0.001 .. 1 of the pairs lie below, ascending.
    """

    quantiles: NDArray[np.float32]

    @classmethod
    def of(cls, vectors: NDArray[np.float32], names: NDArray[np.float32]) -> Background:
        """Measure it.

        Args:
            vectors: (S, D) unit vectors of some pictures, one at least.
            names: (M, D) unit vectors of the names of some tags, one at least, by the encoder of texts.
        """
        return cls(np.quantile(vectors @ names.T, np.linspace(0, 1, 1001)).astype(np.float32))

    def floor(self, relevance: float) -> float:
        """Return the cosine that a share ``relevance`` (0 to 1) of the pairs lies below; none at all for 0."""
        if relevance <= 0:
            return -np.inf
        return float(np.interp(relevance, np.linspace(0, 1, len(self.quantiles)), self.quantiles))

"""What near copies are. It imports nothing, since settings need it."""

from dataclasses import dataclass

MOST_DISTANCE = 8
"""Beyond this distance, the search would miss too many pairs; see ``storage.index.hash_pairs``."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What near copies are.

    Attributes:
        distance: the most bits by which the hashes of what they show differ, of 64; 0 to ``MOST_DISTANCE``.
        cosine: the least one of their vectors.
    """

    distance: int
    cosine: float

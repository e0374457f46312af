"""Positions in an order by vectors: where a page ended, so that the next one continues there whatever changed since.

A position names the last image of the page, with its score and its cosine, and says how many images came before. If the
image still is in the order with both, the next page begins behind it. If it is not, it begins where the image would be.
So images that came or went before it move nothing: none is shown twice, and none is left out.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTH = 4
"""The numbers in a position: images up to it, score, cosine, image id. Score and cosine as the 32 bits of a float."""

_SAME = 1e-4
"""Two cosines, or scores, of an image that did not change differ by less, whichever code computed them."""


def position(place: int, score: float, cosine: float, image_id: int) -> tuple[int, ...]:
    """Return the position behind an image that is the ``place``-th, from 1."""
    return place, _bits(score), _bits(cosine), image_id


def begin(
    after: tuple[int, ...], ids: NDArray[np.int64], scores: NDArray[np.floating], cosines: NDArray[np.float32] | None
) -> int:
    """Return how many images of an order (N,) are before the page that follows a position.

    Args:
        after: the position.
        ids: the images, in their order.
        scores: the numbers that rank, never increasing; equal ones by cosine, then by id.
        cosines: of the images; None: scores depend on other images, so an image counts as unchanged.
    """
    place, score, cosine, image_id = after
    last = np.flatnonzero(ids == image_id)
    is_there = len(last) > 0 and (cosines is None or abs(float(cosines[last[0]]) - _float(cosine)) < _SAME)
    if is_there and (cosines is None or abs(float(scores[last[0]]) - _float(score)) < _SAME):
        return int(last[0]) + 1
    near, level = scores.astype(np.float32), np.float32(_float(score))
    is_equal = near == level
    is_before = is_equal & (ids <= image_id)
    if cosines is not None:
        bound = np.float32(_float(cosine))
        is_before = is_equal & ((cosines > bound) | ((cosines == bound) & (ids <= image_id)))
    would_be = int(np.count_nonzero((near > level) | is_before))
    if not is_there:
        return would_be
    # Only the score changed. If a person corrected the image, it went elsewhere, and the page must not follow it. But
    # if the score depends on other images (``Sure.least``), all scores around changed with it, and the image stayed.
    return min(int(last[0]) + 1, would_be, key=lambda begin: abs(begin - place))


def _bits(number: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", number))[0])


def _float(bits: int) -> float:
    """Return the number; a cursor that nobody gave may have any, as it may have any place."""
    return float(struct.unpack("<f", struct.pack("<I", bits & 0xFFFFFFFF))[0])

"""Long pictures in tiles: panoramas, scrolls, screenshots of whole pages.

A model sees a square. A picture that is much longer than wide is squashed into it until its parts cannot be told. So it
is recognised in square tiles along its longer side: each tag has its best score in any tile, and the vector is the mean
of theirs (docs/decisions/0039-long-pictures.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ram_core.transforms import SquashTransform

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

LONG = 2.5
"""A picture is long if its longer side is more than so many times the shorter one. Films and phones have up to 2.4."""

MOST_TILES = 16
"""Of a picture. The tiles of a still longer one are squashed."""


@dataclass(frozen=True, slots=True)
class TilingTransform:
    """Prepare pictures as a squash does, and long ones also in tiles.

    Attributes:
        squash: prepares a whole picture, or a tile.
    """

    squash: SquashTransform

    @property
    def size(self) -> int:
        """S, the side of the square. Decoders keep enough of the shorter side, which is that of a tile too."""
        return self.squash.size

    @property
    def name(self) -> str:
        """The name of the squash: docs/decisions/0033-pictures-as-shown.md says why it does not change."""
        return self.squash.name

    def of(self, size: tuple[int, int]) -> SquashTransform | TilingTransform:
        """Return what prepares a picture of this width and height: only long ones need tiles."""
        return self if is_long(*size) else self.squash

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return (S, S, 3) uint8 RGB; of a long picture ((1 + N) * S, S, 3): the whole, and below it N tiles."""
        whole = self.squash(image)
        if not is_long(*image.size):
            return whole
        return np.concatenate([whole, *(self.squash(image.crop(box)) for box in boxes(*image.size))])


def tiled(preprocessing: Any) -> Any:
    """Return what prepares long pictures in tiles, if the model squashes pictures; else what was given."""
    return TilingTransform(preprocessing) if isinstance(preprocessing, SquashTransform) else preprocessing


def is_long(width: int, height: int) -> bool:
    """Tell whether a picture is recognised in tiles."""
    return max(width, height) > LONG * min(width, height) > 0


def boxes(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Return left, top, right, bottom of the tiles of a long picture, in pixels.

    They are square, evenly spaced, and overlap: one more than it takes to cover it, so that what stands on the edge of
    one is whole in the next.
    """
    longer, shorter = max(width, height), min(width, height)
    count = min(MOST_TILES, math.ceil(longer / shorter) + 1)
    side = max(shorter, math.ceil(longer / count))
    starts = [round(number * (longer - side) / (count - 1)) for number in range(count)]
    if width > height:
        return [(start, 0, start + side, height) for start in starts]
    return [(0, start, width, start + side) for start in starts]


def squares(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what ``TilingTransform`` made as squares: (1, S, S, 3), or (1 + N, S, S, 3) of a long picture."""
    side = pixels.shape[1]
    return pixels.reshape(-1, side, side, 3)


def mean_vector(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (D,) of unit length: the mean direction of (N, D) unit vectors, or the first if they have none."""
    mean = vectors.mean(axis=0)
    length = float(np.linalg.norm(mean))
    found: NDArray[np.float32] = vectors[0] if length == 0 else (mean / length).astype(np.float32)
    return found

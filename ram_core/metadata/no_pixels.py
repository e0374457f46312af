"""A preparation for pictures of which only the file is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image


@dataclass(frozen=True, slots=True)
class NoPixels:
    """Prepares nothing: of a picture for which only this is asked, no pixel is decoded, and its size is 0.

    Attributes:
        size: of what it returns, in pixels.
        of_sidecar: whether the file has to be XMP alone that can be read to its end.
    """

    size: int = 1
    of_sidecar: bool = False

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return (1, 1, 3) uint8."""
        del image
        return np.zeros((1, 1, 3), dtype=np.uint8)

"""Masks as run-length encoding of COCO, which annotation tools read.

The format (COCO's ``maskApi``): pixels column by column, as lengths of runs, of which the first counts zeros. The text
form has for each run its difference from the run two before it (from the fourth run on), five bits to a character from
the lowest up, the sixth bit says that more follow, 48 is added. Here it is written from this description, in numpy; the
tests hold it to strings that pycocotools 2.0.11 made. So no further package is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ram_core.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RLE:
    """One mask.

    Attributes:
        height: of the mask, in pixels.
        width: of the mask, in pixels.
        counts: the runs as COCO's text; ASCII.
    """

    height: int
    width: int
    counts: str

    def coco(self) -> dict[str, object]:
        """Return the mask as COCO's JSON has it: ``{"size": [height, width], "counts": text}``."""
        return {"size": [self.height, self.width], "counts": self.counts}

    @property
    def area(self) -> int:
        """Number of its pixels."""
        return int(_read(self.counts)[1::2].sum())

    def decode(self) -> NDArray[np.bool_]:
        """Return (height, width) bool.

        Raises:
            ImageError: the text is damaged, or does not fit the size.
        """
        runs = _read(self.counts)
        if (runs < 0).any() or int(runs.sum()) != self.height * self.width:
            raise ImageError(f"this run-length encoding does not fill {self.height} x {self.width} pixels")
        values = np.zeros(len(runs), dtype=np.bool_)
        values[1::2] = True
        return np.repeat(values, runs).reshape(self.width, self.height).T

    def resized(self, height: int, width: int) -> RLE:
        """Return the mask at another size: each pixel is that of the nearest place. For export at the original's."""
        rows = (np.arange(height) * self.height + self.height // 2) // height
        columns = (np.arange(width) * self.width + self.width // 2) // width
        rows, columns = rows.clip(0, self.height - 1), columns.clip(0, self.width - 1)
        return encode(self.decode()[np.ix_(rows, columns)])


def encode(mask: NDArray[np.bool_]) -> RLE:
    """Encode a (height, width) bool mask. Raises ``ImageError`` if it has another type or shape."""
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise ImageError(f"a mask is {mask.dtype} {mask.shape}, not bool (height, width)")
    pixels = mask.T.reshape(-1)
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    bounds = np.concatenate([[0], changes, [pixels.size]])
    runs = np.diff(bounds)
    if pixels.size and pixels[0]:
        runs = np.concatenate([[0], runs])
    return RLE(mask.shape[0], mask.shape[1], _written(runs.tolist()))


def _written(runs: Sequence[int]) -> str:
    text = bytearray()
    for place, run in enumerate(runs):
        rest = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            five = rest & 31
            rest >>= 5
            # The highest of the five bits is the sign of the last character.
            more = rest != (-1 if five & 16 else 0)
            text.append(48 + (five | 32 if more else five))
    return text.decode("ascii")


def _read(text: str) -> NDArray[np.int64]:
    runs: list[int] = []
    value = shift = 0
    for character in text.encode("ascii", "replace"):
        five = character - 48
        if not 0 <= five < 64:
            raise ImageError("this run-length encoding has a character that COCO's text never has")
        value |= (five & 31) << shift
        shift += 5
        if five & 32:
            continue
        if five & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ImageError("this run-length encoding ends in the middle of a number")
    return np.array(runs, dtype=np.int64)

"""Masks of regions as they are stored: COCO's run-length encoding, with the size of the mask before it.

COCO's text form (``maskApi``): pixels column by column, as lengths of runs, of which the first counts zeros. Each run
is written as its difference from the run two before it (from the fourth run on), five bits to a character from the
lowest up; the sixth bit says that more follow; 48 is added.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_FORM = re.compile(rb"([1-9][0-9]{0,5})x([1-9][0-9]{0,5}) ([0-o]*)")
_FIRST_DIFFERENCE = 3


@dataclass(frozen=True, slots=True)
class Mask:
    """The pixels of a region.

    Attributes:
        height: of the mask, in pixels: that of the picture that was segmented, not of the original.
        width: likewise.
        counts: the runs as COCO's text; ASCII.
    """

    height: int
    width: int
    counts: str

    def to_bytes(self) -> bytes:
        """Return the form in which it is stored: ``480x640 `` (height, width), then the runs."""
        return f"{self.height}x{self.width} {self.counts}".encode("ascii")

    @classmethod
    def from_bytes(cls, stored: bytes) -> Mask:
        """Return a stored mask. Raises ``ValueError`` for bytes of another form."""
        found = _FORM.fullmatch(stored)
        if found is None:
            raise ValueError("a mask is HEIGHTxWIDTH, a space, and COCO's run-length encoding")
        return cls(int(found[1]), int(found[2]), found[3].decode("ascii"))

    def coco(self) -> dict[str, object]:
        """Return the mask as COCO's JSON has it: ``{"size": [height, width], "counts": text}``."""
        return {"size": [self.height, self.width], "counts": self.counts}

    def stretches(self) -> NDArray[np.int64]:
        """Return (N, 2): first and last + 1 of each run of pixels of the region, counted column by column.

        Raises:
            ValueError: the runs are damaged, or do not fill the mask.
        """
        ends = np.cumsum(_runs(self.counts.encode("ascii", "replace")))
        if not len(ends) or ends[-1] != self.height * self.width:
            raise ValueError(f"the runs of this mask do not fill {self.height} x {self.width} pixels")
        pairs = len(ends) // 2 * 2
        return np.stack([ends[0:pairs:2], ends[1:pairs:2]], axis=1)

    def share(self) -> float:
        """Return the share 0..1 of the picture that it covers. Raises ``ValueError`` if it is damaged."""
        return union([self.stretches()]) / (self.height * self.width)

    def resized(self, height: int, width: int) -> Mask:
        """Return the mask at another size. Each pixel is that of the nearest place. Raises ``ValueError``."""
        if (height, width) == (self.height, self.width):
            return self
        rows = (np.arange(height) * self.height + self.height // 2) // height
        columns = (np.arange(width) * self.width + self.width // 2) // width
        places = rows.clip(0, self.height - 1), columns.clip(0, self.width - 1)
        return of_pixels(self.pixels()[np.ix_(*places)])

    def pixels(self) -> NDArray[np.bool_]:
        """Return (height, width) bool. Raises ``ValueError`` if it is damaged."""
        flat = np.zeros(self.height * self.width, dtype=np.bool_)
        for start, end in self.stretches().tolist():
            flat[start:end] = True
        return flat.reshape(self.width, self.height).T


def of_pixels(pixels: NDArray[np.bool_]) -> Mask:
    """Return the mask of (height, width) bool, neither of them 0."""
    flat = pixels.T.reshape(-1)
    bounds = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    runs = np.diff(bounds)
    runs = np.concatenate([[0], runs]) if flat[0] else runs
    # From the fourth run on, differences from the run two before it.
    runs[_FIRST_DIFFERENCE:] -= runs[_FIRST_DIFFERENCE - 2 : -2].copy()
    return Mask(pixels.shape[0], pixels.shape[1], "".join(map(_written, runs.tolist())))


def _written(number: int) -> str:
    text, is_more = "", True
    while is_more:
        five = number & 31
        number >>= 5
        # The highest of the five bits is the sign in the last character.
        is_more = number != (-1 if five & 16 else 0)
        text += chr(48 + (five | 32 if is_more else five))
    return text


def union(stretches: Sequence[NDArray[np.int64]]) -> int:
    """Return how many pixels lie in any of these stretches, each (N, 2)."""
    every = np.concatenate([np.empty((0, 2), dtype=np.int64), *stretches])
    every = every[np.argsort(every[:, 0], kind="stable")]
    if not len(every):
        return 0
    reached = np.maximum.accumulate(every[:, 1])
    begins = every[:, 0].copy()
    np.maximum(begins[1:], reached[:-1], out=begins[1:])
    return int(np.maximum(every[:, 1] - begins, 0).sum())


def _runs(text: bytes) -> NDArray[np.int64]:
    """Return the lengths of runs. Raises ``ValueError`` if the text is damaged."""
    codes = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    if not len(codes):
        return np.empty(0, dtype=np.int64)
    is_last = (codes & 32) == 0
    if codes.min() < 0 or codes.max() > 63 or not is_last[-1]:
        raise ValueError("this run-length encoding is damaged")
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if places.max() > 8:
        raise ValueError("this run-length encoding has a run longer than any picture")
    runs = np.add.reduceat((codes & 31) << (5 * places), starts)
    # The fifth bit of the last character is the sign.
    runs -= np.where(codes[ends] & 16, np.int64(1) << (5 * (ends - starts + 1)), 0)
    for first in (_FIRST_DIFFERENCE - 2, _FIRST_DIFFERENCE - 1):
        runs[first::2] = np.cumsum(runs[first::2])
    if runs.min() < 0:
        raise ValueError("this run-length encoding has a run shorter than nothing")
    return runs

"""The two parts of a locator: what a detector and a segmenter are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ram_core.localization.results import PartSpec
    from ram_core.localization.rle import RLE
    from ram_core.transforms import Sides


PRECISION = "RAMQ_LOCATE_PRECISION"
"""What chooses the number format of both."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a detector finds in one picture, before overlapping boxes are dropped. A box may stand for several tags.

    Attributes:
        boxes: (K, 4) float32 left, top, right, bottom, as fractions of the picture; may lie outside 0..1.
        tags: (K,) int64 positions in the picture's list of tags.
        scores: (K,) float32 in 0..1.
    """

    boxes: NDArray[np.float32]
    tags: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Mask:
    """The pixels of one box.

    Attributes:
        rle: at the size of the picture.
        quality: the overlap (IoU) with the true mask that the model predicts, 0..1.
    """

    rle: RLE
    quality: float


class Detector(Protocol):
    """Finds boxes of tags. One thread at a time."""

    @property
    def spec(self) -> PartSpec:
        """What identifies it."""

    @property
    def sides(self) -> Sides:
        """The size of pictures that it uses. It takes others too, and resizes them."""

    @property
    def threshold(self) -> float:
        """The least score at which its authors take a box."""

    def refused(self, tags: Sequence[str]) -> dict[str, str]:
        """Return the tags that it cannot look for, each with the reason."""

    def detect(
        self, pictures: Sequence[NDArray[np.uint8]], tags: Sequence[Sequence[str]], threshold: float
    ) -> list[Candidates]:
        """Find the boxes of each picture's own tags whose score is at least ``threshold``.

        A picture's result does not depend on the others.

        Raises:
            VocabularyError: a tag is one of those that ``refused`` names.
            ImageError: pixels have another shape or type.
            CheckpointError: the network computes values that are not finite.
        """


class Segmenter(Protocol):
    """Finds the pixels of boxes. One thread at a time."""

    @property
    def spec(self) -> PartSpec:
        """What identifies it."""

    @property
    def sides(self) -> Sides:
        """The size of pictures that it uses. It takes others too, and resizes them."""

    def segment(self, pictures: Sequence[NDArray[np.uint8]], boxes: Sequence[NDArray[np.float32]]) -> list[list[Mask]]:
        """Return a mask for each of the (N, 4) boxes, as fractions, of each picture.

        Raises:
            ImageError: pixels have another shape or type.
            CheckpointError: the network computes values that are not finite.
        """

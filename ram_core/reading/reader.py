"""The steps from a picture to its lines: find, cut out, recognise, put into order."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import numpy as np

from ram_core.errors import ImageError
from ram_core.reading.order import reading_order
from ram_core.reading.results import Line, Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ram_core.reading.detection import Detector
    from ram_core.reading.recognition import Recognizer
    from ram_core.reading.results import ReaderSpec
    from ram_core.transforms import ReadingTransform

MAX_LINES = 1_000
MAX_CHARACTERS = 1_000
"""Of one line."""

MAX_WIDTH = 1_500_000
"""Of all lines of a picture as they are read, together, in pixels. A page of 10,000 words has about a million."""

LEAST_CONFIDENCE = 0.6
"""Lines of which the network is less sure are dropped: they are seldom text."""
LEAST_CONFIDENCE_OF_ONE = 0.9
"""The same for a single character. Windows, wheels and flowers are read as 田 or O."""


class Reader:
    """A loaded reader. One thread at a time, except for ``preprocessing``.

    Args:
        spec: what identifies it.
        preprocessing: from a decoded image to pixels.
        detector: finds text.
        recognizer: reads what was found.
    """

    def __init__(
        self, spec: ReaderSpec, preprocessing: ReadingTransform, detector: Detector, recognizer: Recognizer
    ) -> None:
        self._spec = spec
        self._preprocessing = preprocessing
        self._detector = detector
        self._recognizer = recognizer

    @property
    def spec(self) -> ReaderSpec:
        """The specification of this reader."""
        return self._spec

    @property
    def preprocessing(self) -> ReadingTransform:
        """The transform from a decoded image to pixels."""
        return self._preprocessing

    def read(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        """Read pictures, each (H, W, 3) uint8 RGB made by ``preprocessing``, of any sizes; one reading per picture.

        Raises:
            ImageError: pixels have another shape or type.
        """
        return [self._read(picture) for picture in pictures]

    def _read(self, picture: NDArray[np.uint8]) -> Reading:
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise ImageError(f"pixels are {picture.dtype} {picture.shape}, not uint8 (H, W, 3)")
        found = self._detector.find(picture)
        # Lines are cut off in reading order, so what is kept belongs together.
        boxes = found.boxes[reading_order(found.boxes)]
        fitting = int(np.searchsorted(np.cumsum(self._recognizer.widths(boxes)), MAX_WIDTH, side="right"))
        kept = boxes[: min(fitting, MAX_LINES)]
        lines, corners = [], []
        scale = np.array(picture.shape[1::-1], dtype=np.float64)
        for box, text, confidence in self._recognizer.recognise(picture, kept):
            cleaned = clean(text)
            least = LEAST_CONFIDENCE if len(cleaned) > 1 else LEAST_CONFIDENCE_OF_ONE
            # Edges and ornaments are read as strokes and dots.
            if confidence >= least and any(map(str.isalnum, cleaned)):
                polygon = np.clip(box / scale, 0, 1).round(5).tolist()
                lines.append(Line(cleaned, min(confidence, 1.0), tuple((x, y) for x, y in polygon)))
                corners.append(box)
        # Only now is known which way the text goes.
        order = reading_order(np.array(corners).reshape(-1, 4, 2))
        return Reading(tuple(lines[i] for i in order), found.is_cut or len(kept) < len(boxes))


def clean(text: str) -> str:
    """Return the text in NFC, with single spaces, without control characters, and not too long."""
    # Category C: controls, formats (also those that reverse text), surrogates, private and unassigned code points.
    words = ("".join(each for each in word if unicodedata.category(each)[0] != "C") for word in text.split())
    # Only now: a character that was dropped may have kept a letter from its accent.
    composed = unicodedata.normalize("NFC", " ".join(word for word in words if word))
    return composed[:MAX_CHARACTERS].strip()

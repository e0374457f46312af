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

_LEAST_CONFIDENCE = 0.5


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
        boxes, is_cut = self._detector.find(picture)
        boxes, is_cut = boxes[:MAX_LINES], is_cut or len(boxes) > MAX_LINES
        scale = np.array([picture.shape[1], picture.shape[0]], dtype=np.float32)
        lines = []
        for box, text, confidence in self._recognizer.recognise(picture, boxes):
            clean = _clean(text)
            if clean and confidence >= _LEAST_CONFIDENCE:
                points = np.clip(box / scale, 0, 1)
                lines.append(Line(clean, confidence, tuple((float(x), float(y)) for x, y in points)))
        order = reading_order(np.array([line.polygon for line in lines]) * scale) if lines else []
        return Reading(tuple(lines[i] for i in order), is_cut)


def _clean(text: str) -> str:
    """Return the text in NFC, with single spaces, without control characters, and not too long."""
    composed = unicodedata.normalize("NFC", " ".join(text.split()))
    # Category C: controls, formats (also those that reverse text), surrogates, private and unassigned code points.
    printable = "".join(each for each in composed if unicodedata.category(each)[0] != "C")
    return printable[:MAX_CHARACTERS].strip()

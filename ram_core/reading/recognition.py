"""What the text says: boxes are cut out and turned upright, then a network reads them.

A network for direction marks lines that may be upside down. It is shown the start of a line. (Squeezed into its width,
as is usual, long lines are illegible to it: it missed most of those that were upside down.) A marked line is read both
ways, and the reading of which the second network is surer is kept, so its errors cost time and no text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from rapidocr.ch_ppocr_rec.utils import CTCLabelDecode
from rapidocr.utils.process_img import get_rotate_crop_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_HEIGHT = 48
"""Height of a line in pixels, for both networks."""
_DIRECTION_WIDTH = 192
_LEAST_WIDTH = 320
"""Narrower lines are padded to this width, as they were in training."""
_MOST_WIDTH = 3200
"""Wider lines are squeezed."""
_STEP = 64
"""Lines are padded to a multiple of this, so that a batch has lines of one width, and a line's reading does not depend
on the others in its batch."""
_BATCH_WIDTH = 2560
"""Width of all lines of a batch together, in pixels, unless it is of a single line."""
_TURNED = 0.5
"""Probability from which on a line may be upside down."""
_UPENDED = 1.5
"""Boxes that are so many times higher than wide hold lines that go up or down; the library turns them."""


class Recognised(NamedTuple):
    """A box, (4, 2) corners from the text's own top left on, with its text and the mean probability of characters."""

    box: NDArray[np.float32]
    text: str
    confidence: float


class Recognizer:
    """Reads lines.

    Args:
        session: ONNX session, (B, 3, 48, W) float32 BGR in -1..1 -> (B, T, C) probabilities of characters.
        direction: ONNX session, (B, 3, 48, 192) -> (B, 2) probabilities of upright and upside down.
        characters: (C - 2) characters in the order of the network's classes. The blank is before them, the space
            behind them.
    """

    def __init__(self, session: Any, direction: Any, characters: Sequence[str]) -> None:
        self._session = session
        self._direction = direction
        self._decode = CTCLabelDecode(character=list(characters))

    def recognise(self, picture: NDArray[np.uint8], boxes: NDArray[np.float32]) -> list[Recognised]:
        """Read each of the (N, 4, 2) boxes, in pixels; the result has their order.

        Args:
            picture: (H, W, 3) uint8 RGB.
            boxes: corners x, y, clockwise from the top left.
        """
        found: list[Recognised | None] = [None] * len(boxes)
        widths = self.widths(boxes)
        for width in np.unique(widths):
            rows = np.flatnonzero(widths == width)
            step = max(1, _BATCH_WIDTH // int(width))
            for start in range(0, len(rows), step):
                batch = rows[start : start + step]
                for i, read in zip(batch, self._batch(picture, boxes[batch], int(width)), strict=True):
                    found[i] = read
        return [each for each in found if each is not None]

    @staticmethod
    def widths(boxes: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return (N,) the width in pixels at which each box is read. It says how long that takes."""
        across, down = _sides(boxes)
        ratio = np.where(down >= _UPENDED * across, down / across, across / down)
        steps: NDArray[np.intp] = np.ceil(ratio * _HEIGHT / _STEP).astype(np.intp) * _STEP
        return np.clip(steps, _LEAST_WIDTH, _MOST_WIDTH)

    def _batch(self, picture: NDArray[np.uint8], boxes: NDArray[np.float32], width: int) -> list[Recognised]:
        crops = [np.ascontiguousarray(get_rotate_crop_image(picture, box.copy())) for box in boxes]
        across, down = _sides(boxes)
        # The library turned these anticlockwise: their top right corner came to the top left.
        corners = [
            np.roll(box, -1, axis=0) if up else box for box, up in zip(boxes, down >= _UPENDED * across, strict=True)
        ]
        results = [Recognised(box, *text) for box, text in zip(corners, self._read(crops, width), strict=True)]
        marked = np.flatnonzero(self._turned(crops))
        if len(marked):
            turned = self._read([np.ascontiguousarray(crops[i][::-1, ::-1]) for i in marked], width)
            for i, (text, confidence) in zip(marked, turned, strict=True):
                if confidence > results[i].confidence:
                    results[i] = Recognised(np.roll(corners[i], -2, axis=0), text, confidence)
        return results

    def _turned(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.bool_]:
        """Return (N,) whether a line may be upside down."""
        starts = (crop[:, : crop.shape[0] * _DIRECTION_WIDTH // _HEIGHT] for crop in crops)
        pixels = np.stack([_line(start, _DIRECTION_WIDTH) for start in starts])
        scores: NDArray[np.float32] = self._direction.run(None, {self._direction.get_inputs()[0].name: pixels})[0]
        return scores[:, 1] > _TURNED

    def _read(self, crops: Sequence[NDArray[np.uint8]], width: int) -> list[tuple[str, float]]:
        """Return text and confidence of each line, padded to ``width``."""
        pixels = np.stack([_line(crop, width) for crop in crops])
        scores = self._session.run(None, {self._session.get_inputs()[0].name: pixels})[0]
        lines, _ = self._decode(scores)
        return [(str(text), float(confidence)) for text, confidence in lines]


def _sides(boxes: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (N,) widths and heights in pixels, at least 1; the longer of two opposite sides counts, as for a crop."""
    top, bottom = boxes[:, 1] - boxes[:, 0], boxes[:, 2] - boxes[:, 3]
    left, right = boxes[:, 3] - boxes[:, 0], boxes[:, 2] - boxes[:, 1]
    across = np.maximum(np.hypot(top[:, 0], top[:, 1]), np.hypot(bottom[:, 0], bottom[:, 1]))
    down = np.maximum(np.hypot(left[:, 0], left[:, 1]), np.hypot(right[:, 0], right[:, 1]))
    # Whole pixels, as the library counts them: it decides with these numbers which crops it turns.
    return np.maximum(np.floor(across), 1), np.maximum(np.floor(down), 1)


def _line(crop: NDArray[np.uint8], width: int) -> NDArray[np.float32]:
    """(H, W, 3) RGB -> (3, 48, width) float32 BGR in -1..1, with zeros to its right."""
    wanted = min(width, max(1, round(crop.shape[1] * _HEIGHT / crop.shape[0])))
    way = cv2.INTER_AREA if crop.shape[0] > _HEIGHT else cv2.INTER_LINEAR
    resized = cv2.resize(crop, (wanted, _HEIGHT), interpolation=way)
    padded = np.zeros((3, _HEIGHT, width), dtype=np.float32)
    padded[:, :, :wanted] = resized[:, :, ::-1].transpose(2, 0, 1) * np.float32(2 / 255) - 1
    return padded

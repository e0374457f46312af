"""What the text says: boxes are cut out and turned upright, then a network reads them a line at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from rapidocr.ch_ppocr_rec.utils import CTCLabelDecode
from rapidocr.utils.process_img import get_rotate_crop_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_HEIGHT = 48  # of a line, for both networks
_DIRECTION_WIDTH = 192
_LEAST_WIDTH = 320
_MOST_WIDTH = 3200
_STEP = 64
_TURNED = 0.9


class Recognised(NamedTuple):
    """A box (4, 2) with its text. Its first corner is the text's own top left."""

    box: NDArray[np.float32]
    text: str
    confidence: float


class Recognizer:
    """Reads lines.

    Args:
        session: ONNX session, (B, 3, 48, W) float32 BGR in -1..1 -> (B, T, C) probabilities of characters.
        direction: ONNX session, (B, 3, 48, 192) -> (B, 2) probabilities of upright and upside down.
        characters: (C - 2) characters in the order of the network's classes; before them is the blank, after them
            the space.
    """

    def __init__(self, session: Any, direction: Any, characters: list[str]) -> None:
        self._session = session
        self._direction = direction
        self._decode = CTCLabelDecode(character=list(characters))

    def recognise(self, picture: NDArray[np.uint8], boxes: NDArray[np.float32]) -> Iterator[Recognised]:
        """Yield each box with its text, of (N, 4, 2) boxes in pixels."""
        for given in boxes:
            crop, box = np.ascontiguousarray(get_rotate_crop_image(picture, given.copy())), given
            width, height = (float(np.linalg.norm(given[0] - given[i])) for i in (1, 3))
            if height >= 1.5 * width:
                box = np.roll(box, -1, axis=0)  # the library turned it by 90 degrees
            if self._is_turned(crop):
                crop, box = np.ascontiguousarray(crop[::-1, ::-1]), np.roll(box, -2, axis=0)
            ((text, confidence),) = self._read(crop[None])
            yield Recognised(box, text, confidence)

    def _is_turned(self, crop: NDArray[np.uint8]) -> bool:
        (scores,) = self._direction.run(None, {"x": _padded(crop, _DIRECTION_WIDTH)[None]})
        return bool(scores[0, 1] > _TURNED)

    def _read(self, crops: NDArray[np.uint8]) -> list[tuple[str, float]]:
        height, width = crops.shape[1:3]
        wanted = -(-int(width * _HEIGHT / height) // _STEP) * _STEP
        wanted = min(max(wanted, _LEAST_WIDTH), _MOST_WIDTH)
        (scores,) = self._session.run(None, {"x": np.stack([_padded(crop, wanted) for crop in crops])})
        lines, _ = self._decode(scores)
        return [(str(text), float(confidence)) for text, confidence in lines]


def _padded(crop: NDArray[np.uint8], width: int) -> NDArray[np.float32]:
    """(H, W, 3) RGB -> (3, 48, width) float32 BGR in -1..1, zeros to the right."""
    wanted = min(width, max(1, round(crop.shape[1] * _HEIGHT / crop.shape[0])))
    resized = cv2.resize(crop, (wanted, _HEIGHT), interpolation=cv2.INTER_LINEAR)
    padded = np.zeros((3, _HEIGHT, width), dtype=np.float32)
    padded[:, :, :wanted] = resized[:, :, ::-1].transpose(2, 0, 1) * np.float32(2 / 255) - 1
    return padded

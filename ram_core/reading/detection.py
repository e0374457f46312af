"""Where the text is: the network that marks it, and the boxes around what it marks.

The network gives each pixel the probability that it is inside a line of text, shrunk towards its middle (Differentiable
Binarization, arXiv:1911.08947). rapidocr has the steps from there to boxes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from rapidocr.ch_ppocr_det.utils import DBPostProcess

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MULTIPLE = 32  # the network halves its input five times
_MAX_SIDE = 1536


class Detector:
    """Finds lines of text.

    Args:
        session: ONNX session, (B, 3, H, W) float32 BGR in -1..1 -> (B, 1, H, W) probabilities.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._boxes = DBPostProcess(
            thresh=0.3, box_thresh=0.5, max_candidates=1000, unclip_ratio=1.6, use_dilation=True, score_mode="fast"
        )

    def find(self, picture: NDArray[np.uint8]) -> tuple[NDArray[np.float32], bool]:
        """Return (N, 4, 2) float32 corners x, y in pixels, clockwise from the top left, and whether there were more."""
        height, width = picture.shape[:2]
        scale = min(1.0, _MAX_SIDE / max(height, width))
        size = [max(_MULTIPLE, round(side * scale / _MULTIPLE) * _MULTIPLE) for side in (width, height)]
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        pixels = small[:, :, ::-1].astype(np.float32) * (2 / 255) - 1
        (marked,) = self._session.run(None, {self._session.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None]})
        boxes, _ = self._boxes(marked, (height, width))
        return np.asarray(boxes, dtype=np.float32).reshape(-1, 4, 2), False

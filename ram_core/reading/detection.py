"""Where the text is: the network that marks it, and the boxes around what it marks.

The network gives each pixel the probability that it is inside a line of text, shrunk towards its middle (Differentiable
Binarization, arXiv:1911.08947). rapidocr has the steps from there to boxes.

A small copy of the picture is looked at first. Only around what that shows, the picture is looked at closely: in
windows, and large windows in tiles that overlap. The maps of all windows are put together before boxes are made, so no
line is found twice or in two halves. Letters that are too large for the close look are taken from the small copy.
``docs/reading.md`` has the measurements behind the numbers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from rapidocr.ch_ppocr_det.utils import DBPostProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_MULTIPLE = 32
"""The network halves its input five times."""
_LOOK_LEAST, _LOOK_MOST = 640, 1280
"""Longer side of the copy for the first look: half of the picture's, within these limits. In photographs, letters are
seen from about 8 pixels on."""
_GLIMPSE = 0.2
"""Probability in the first look from which on a place is looked at closely."""
_AROUND = 24
"""So far around such a place, in pixels of the first look."""
_LONGER = 3
"""And further by this part of the length of what is seen there."""
_EVERYWHERE = 0.6
"""If the windows cover more than this share of a picture, all of it is looked at closely."""
_WHOLE = 1536
"""Longer side up to which a picture is looked at as it is; a larger one is reduced, but not below this nor by more than
``_CLOSE``."""
_CLOSE = 0.75
_TILE = 1024
_OVERLAP = 128
"""Of two tiles. Half of it is the border at which a tile's map is not trusted."""
_LARGE = 160
"""Height of a box in the close look, in pixels, from which on the first look is trusted more."""
_MARKED = 0.3
"""Probability from which on a pixel belongs to a line."""
_SPECK = 6
"""Marks with fewer pixels are no text."""
_THINNEST = 3
"""Marks that are thinner, in pixels, are no text."""
_SURE = 0.5
"""Mean probability of a line, at least."""
_GROWN = 1.6
"""How much a line is larger than its mark, which is shrunk: the constant of the paper's formula."""
_LOWEST = 3
"""Lines must be higher than this in the picture, in pixels."""
MAX_MARKS = 3_000
"""Boxes are made of so many marks at most."""


Window = tuple[float, float, float, float]
"""Left, top, right and bottom as fractions of a picture."""

_MOST_PARTS = 12
"""Marks of the close look inside one of large letters: they may be marked letter by letter."""


class Found(NamedTuple):
    """(N, 4, 2) float32 corners x, y in pixels, clockwise from the top left; and whether there was more than that."""

    boxes: NDArray[np.float32]
    is_cut: bool


class Detector:
    """Finds lines of text.

    Args:
        session: ONNX session, (B, 3, H, W) float32 BGR in -1..1 -> (B, 1, H, W) probabilities.
        has_first_look: whether pictures are looked at in small first. Without it, all of each is looked at closely.
    """

    def __init__(self, session: Any, *, has_first_look: bool = True) -> None:
        self._session = session
        self.has_first_look = has_first_look
        self._post = DBPostProcess(unclip_ratio=_GROWN)

    def find(self, picture: NDArray[np.uint8]) -> Found:
        """Find the lines of a (H, W, 3) uint8 RGB picture."""
        height, width = picture.shape[:2]
        longer = max(height, width)
        close = min(1.0, max(_CLOSE, _WHOLE / longer))
        if longer <= _LOOK_LEAST or not self.has_first_look:
            return self._boxes(self._closely(picture, close, [(0.0, 0.0, 1.0, 1.0)]), width, height)
        look = self.marks(picture, min(max(_LOOK_LEAST, longer / 2), _LOOK_MOST) / longer)
        windows = _windows(look)
        if not windows:
            return Found(np.zeros((0, 4, 2), dtype=np.float32), is_cut=False)
        near = self._boxes(self._closely(picture, close, windows), width, height)
        return _joined(near, self._boxes(look, width, height), _LARGE / close)

    def marks(self, picture: NDArray[np.uint8], scale: float) -> NDArray[np.float32]:
        """Return the network's map of a picture that is resized by ``scale`` first; its sides are multiples of 32."""
        height, width = (max(1, round(side * scale / _MULTIPLE)) * _MULTIPLE for side in picture.shape[:2])
        return self._run(_resized(picture, width, height))

    def _run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W, 3) RGB, multiples of 32 -> (H, W)."""
        levels = pixels[:, :, ::-1].astype(np.float32) * np.float32(2 / 255) - 1
        batch = np.ascontiguousarray(levels.transpose(2, 0, 1))[None]
        marks: NDArray[np.float32] = self._session.run(None, {self._session.get_inputs()[0].name: batch})[0][0, 0]
        return marks

    def _closely(self, picture: NDArray[np.uint8], scale: float, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Return the map of a picture that is resized by ``scale`` first. It is 0 outside of the windows."""
        height, width = (max(1, round(side * scale / _MULTIPLE)) * _MULTIPLE for side in picture.shape[:2])
        pixels = _resized(picture, width, height)
        marks = np.zeros((height, width), dtype=np.float32)
        for x0, y0, x1, y1 in windows:
            is_whole = max((y1 - y0) * height, (x1 - x0) * width) <= _WHOLE
            for top, bottom, upper, lower in _spans(y0 * height, y1 * height, height, is_whole=is_whole):
                for left, right, start, end in _spans(x0 * width, x1 * width, width, is_whole=is_whole):
                    tile = self._run(np.ascontiguousarray(pixels[top:bottom, left:right]))
                    marks[upper:lower, start:end] = tile[upper - top : lower - top, start - left : end - left]
        return marks

    def _boxes(self, marks: NDArray[np.float32], width: int, height: int) -> Found:
        """Return the boxes around what is marked, for a picture of this size."""
        mask = cv2.dilate((marks > _MARKED).astype(np.uint8), np.ones((2, 2), np.uint8))
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
        area = stats[:, cv2.CC_STAT_AREA].copy()
        area[0] = 0  # the background
        kept = area >= _SPECK
        is_cut = int(kept.sum()) > MAX_MARKS
        if is_cut:
            kept &= area >= np.partition(area, count - MAX_MARKS)[count - MAX_MARKS]
        mask = kept.astype(np.uint8)[labels]
        # Outer edges only: the inner edge of a ring would give a second box.
        edges, family = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        outer = [
            edge for edge, (*_, parent) in zip(edges, [] if family is None else family[0], strict=True) if parent < 0
        ]
        scale = np.array([width / marks.shape[1], height / marks.shape[0]], dtype=np.float32)
        boxes = []
        for edge in outer:
            inner, shorter = self._post.get_mini_boxes(edge)
            if shorter < _THINNEST or self._post.box_score_fast(marks, inner) < _SURE:
                continue
            corners, _ = self._post.get_mini_boxes(self._post.unclip(inner))
            box = np.clip(self._post.order_points_clockwise(corners * scale), 0, (width - 1, height - 1))
            if _height(box) > _LOWEST:
                boxes.append(box)
        return Found(np.asarray(boxes, dtype=np.float32).reshape(-1, 4, 2), is_cut)


def _resized(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    is_smaller = width * height < picture.shape[0] * picture.shape[1]
    way = cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=way), dtype=np.uint8)


def _windows(look: NDArray[np.float32]) -> list[Window]:
    """Return where to look closely: boxes around what the first look shows, apart from each other, in fractions."""
    height, width = look.shape
    around = np.ones((2 * _AROUND + 1, 2 * _AROUND + 1), np.uint8)
    seen = _boxed(cv2.dilate((look >= _GLIMPSE).astype(np.uint8), around))
    for x, y, w, h in _parts(seen):
        # The first look often shows only a part of a line.
        more = (max(w, h) - 2 * _AROUND) // _LONGER
        seen[max(0, y - more) : y + h + more, max(0, x - more) : x + w + more] = 1
    seen = _boxed(seen)
    if seen.mean() > _EVERYWHERE:
        return [(0.0, 0.0, 1.0, 1.0)]
    return [(x / width, y / height, (x + w) / width, (y + h) / height) for x, y, w, h in _parts(seen)]


def _parts(seen: NDArray[np.uint8]) -> list[tuple[int, int, int, int]]:
    """Return the box around each part of a mask: left, top, width, height."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(seen)
    return [(x, y, w, h) for x, y, w, h, _ in stats[1:].tolist()]


def _boxed(seen: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fill each part of a mask up to a box. Boxes that touch become one."""
    while True:
        before = int(seen.sum())
        for x, y, w, h in _parts(seen):
            seen[y : y + h, x : x + w] = 1
        if int(seen.sum()) == before:
            return seen


def _spans(start: float, end: float, length: int, *, is_whole: bool) -> Iterator[tuple[int, int, int, int]]:
    """Yield the tiles along a side of a window: where each begins and ends, and the part of its map that is taken.

    Args:
        start: where the window begins, in pixels.
        end: where it ends.
        length: of the side; a multiple of 32, as all tiles are.
        is_whole: one tile takes it all.
    """
    first, last = int(start) // _MULTIPLE * _MULTIPLE, min(length, -(-int(np.ceil(end)) // _MULTIPLE) * _MULTIPLE)
    size = last - first if is_whole else min(_TILE, last - first)
    count = 1 if size == last - first else -(-(last - first - _OVERLAP) // (_TILE - _OVERLAP))
    begins = [
        first + round(i * (last - first - size) / max(1, count - 1) / _MULTIPLE) * _MULTIPLE for i in range(count)
    ]
    # Neighbours share the border in the middle of their overlap.
    borders = [first, *((a + size + b) // 2 for a, b in pairwise(begins)), last]
    for begin, (upper, lower) in zip(begins, pairwise(borders), strict=True):
        yield begin, begin + size, upper, lower


def _joined(near: Found, far: Found, large: float) -> Found:
    """Take the lines of ``large`` letters, in pixels of the picture, from the first look; others from the close one."""
    # A page of small print is one large mark in the first look. It has more lines than large letters have parts.
    taken = [box for box in far.boxes if _height(box) >= large and _inside(box, near) <= _MOST_PARTS]
    others = [
        box
        for box, (x, y) in zip(near.boxes, near.boxes.mean(axis=1).tolist(), strict=True)
        # Marks far above the size that the close look can judge are frames and shadows.
        if _height(box) < 1.5 * large
        and all(cv2.pointPolygonTest(each, (x, y), measureDist=False) < 0 for each in taken)
    ]
    return Found(np.asarray([*others, *taken], dtype=np.float32).reshape(-1, 4, 2), near.is_cut or far.is_cut)


def _inside(box: NDArray[np.float32], near: Found) -> int:
    """Return how many marks of the close look have their middle in a box."""
    middles = near.boxes.mean(axis=1).tolist() if len(near.boxes) else []
    return sum(cv2.pointPolygonTest(box, (x, y), measureDist=False) >= 0 for x, y in middles)


def _height(box: NDArray[np.float32]) -> float:
    return float(min(np.linalg.norm(box[1] - box[0]), np.linalg.norm(box[3] - box[0])))

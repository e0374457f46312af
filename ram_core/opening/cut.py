"""Pictures whose file is cut short, as far as they go.

Interrupted uploads and full disks leave such files. Their upper part is often whole. What was not read is grey in a
JPEG, as in other programs, and black elsewhere. The picture keeps its size, so that places in it stay where they are.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from PIL import ImageFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

LEAST_SHARE = 0.5
"""Of the rows. With less, most of what the picture shows is not there, and its tags say nothing of it."""

_FORMATS = frozenset({"JPEG", "MPO", "PNG", "BMP", "PPM", "TIFF"})
"""Their decoders write row by row. Those of the others want the whole file."""

_MOST_SHARE = 0.999
"""1 is the share of a picture that is whole, in a file of which pages are missing."""

_GREY = (126, 129)
"""The levels that a JPEG has where nothing was read: coefficients of 0 are the middle grey, up to rounding."""

_one_at_a_time = threading.Lock()


def can_be_read(image: Image.Image) -> bool:
    """Tell whether a picture whose file is cut short can be read in part. Its rows must be stored in order."""
    return image.format in _FORMATS and not image.info.get("interlace")


def load(image: Image.Image) -> float:
    """Load a picture as far as its file goes, and return the share of its rows that were read: 0 or more, below 1.

    Pillow's switch for this is one for the whole process: in other threads, cut files may be read too meanwhile.
    """
    with _one_at_a_time:
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            image.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before
    return _share(image)


def _share(image: Image.Image) -> float:
    height, is_upward = image.height, image.format == "BMP"
    low, high = 0, height  # rows at the end that are certainly blank, and those that may be
    while low < high:
        middle = (low + high + 1) // 2
        rows = (0, 0, image.width, middle) if is_upward else (0, height - middle, image.width, height)
        if _is_blank(image.crop(rows)):
            low = middle
        else:
            high = middle - 1
    return min((height - low) / height, _MOST_SHARE)


def _is_blank(rows: Image.Image) -> bool:
    """Tell whether nothing was read of these rows. A picture that ends in such a colour counts as shorter."""
    extrema = rows.getextrema()
    ranges: Sequence[Any] = extrema if isinstance(extrema[0], tuple) else [extrema]
    if all(low == high == 0 for low, high in ranges):
        return True
    return all(_GREY[0] <= low <= high <= _GREY[1] for low, high in ranges) and rows.mode in {"L", "RGB", "CMYK"}

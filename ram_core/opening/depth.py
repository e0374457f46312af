"""Samples of more than 8 bits, in the range that they use.

Files of 16 bits per sample often hold 10, 12 or 14 bits: those of cameras for industry, microscopes and scanners. Taken
as 16 bits they are black. Few files say which it is, so the brightest sample says it: a picture that keeps below a
quarter of the range all over is taken as one of fewer bits. Pictures that use their range keep their pixels.
"""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ram_core.transforms import eight_bits, full_range, wide_grey

_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
_GREY_WITH_ALPHA = "LA;16B"
"""Of PNG. Pillow has no other order of it, but its four bytes per pixel are those of an RGBA picture of 8 bits."""

_HIGH_OF_14_BITS = (1 << 14 - 8) - 1


def is_deep(image: Image.Image) -> bool:
    """Tell whether an image that is not loaded is of colours with 16 bits, of which Pillow keeps the upper 8."""
    return any(_rawmode(tile.args)[-4:-1] == ";16" for tile in getattr(image, "tile", ())) and image.mode in {
        "RGB",
        "RGBA",
    }


def in_used_range(image: Image.Image, body: bytes | memoryview) -> Image.Image:
    """Return an image whose colours were ``is_deep``, in the range that its samples use.

    Args:
        image: loaded.
        body: its file, which is decoded again for the lower bits where the upper ones are hardly used.
    """
    high = np.asarray(image)  # (H, W, 3 or 4)
    if int(high[..., :3].max(initial=0)) > _HIGH_OF_14_BITS:
        return image
    again = Image.open(io.BytesIO(body), formats=[image.format or ""])
    tiles = again.tile
    again.tile = [tile._replace(args=_of_lower_bits(tile.args)) for tile in tiles]
    low = np.asarray(again)
    if _rawmode(tiles[0].args) == _GREY_WITH_ALPHA:
        low = low[..., [1, 1, 1, 3]]
    # Transparency has 16 bits beside colours that have fewer, or as few as they.
    count = high.shape[-1] if int(high.max(initial=0)) <= _HIGH_OF_14_BITS else 3
    samples = high[..., :count].astype(np.uint16) << 8 | low[..., :count]
    levels = eight_bits(samples, full_range(int(samples.max(initial=0))))
    if count < high.shape[-1]:
        levels = np.dstack([levels, high[..., 3]])
    scaled = Image.fromarray(levels)
    scaled.info = image.info
    return scaled


def with_white_as_light(image: Image.Image) -> Image.Image:
    """Return a loaded TIFF whose samples say how dark they are with light ones. Pillow does so up to 8 bits only."""
    tags: Any = getattr(image, "tag_v2", None)
    if tags is None or tags.get(_PHOTOMETRIC) != _WHITE_IS_ZERO or not image.mode.startswith(("I", "F")):
        return image
    return ImageOps.invert(wide_grey(image))


def _rawmode(args: Any) -> str:
    return str(args[0] if isinstance(args, tuple) else args)


def _of_lower_bits(args: Any) -> Any:
    """Return what makes Pillow's decoder keep the lower 8 bits: the other order of bytes."""
    rawmode = _rawmode(args)
    other = "RGBA" if rawmode == _GREY_WITH_ALPHA else rawmode[:-1] + _OTHER_ORDER[rawmode[-1]]
    return (other, *args[1:]) if isinstance(args, tuple) else other

"""A picture with its regions drawn over it."""

from __future__ import annotations

import io
from colorsys import hls_to_rgb
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from storage.results.masks import Mask
from storage.texts import fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.results.region_views import RegionView

_OPACITY = 0.4
"""Of masks."""


def draw(picture: bytes, regions: Sequence[RegionView]) -> bytes:
    """Return a PNG of the picture with the boxes, tags and scores of regions, and their masks half transparent.

    Args:
        picture: an upright picture in a form that Pillow reads.
        regions: drawn in this order. A tag has the same color in every picture.
    """
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    width, height = image.size
    pixels = np.array(image, dtype=np.float32)  # (H, W, 3)
    for region in regions:
        if region.mask is not None:
            is_in = Mask.from_bytes(region.mask).resized(height, width).pixels()
            pixels[is_in] = (1 - _OPACITY) * pixels[is_in] + _OPACITY * np.array(_color(region.tag), dtype=np.float32)
    image = Image.fromarray(pixels.round().astype(np.uint8))
    brush = ImageDraw.Draw(image)
    letter = max(12, min(width, height) // 40)
    font = ImageFont.load_default(letter)
    for region in regions:
        left, top, right, bottom = (number * side for number, side in zip(region.box, (width, height) * 2, strict=True))
        color = _color(region.tag)
        brush.rectangle((left, top, right, bottom), outline=color, width=max(2, letter // 8))
        # The font of Pillow has Latin letters only; others would end in an error or a row of boxes.
        tag = region.tag.encode("latin-1", "replace").decode("latin-1")
        label = f"{tag} {region.score:.2f}"
        at = (left, max(0, top - 1.3 * letter))
        brush.rectangle(brush.textbbox(at, label, font=font), fill=color)
        brush.text(at, label, fill="white", font=font)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _color(tag: str) -> tuple[int, int, int]:
    red, green, blue = hls_to_rgb(crc32(fold(tag).encode()) % 360 / 360, 0.4, 0.8)
    return round(red * 255), round(green * 255), round(blue * 255)

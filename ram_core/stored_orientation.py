"""How the stored pixels of a file have to be turned to be shown, told without reading any pixel."""

from __future__ import annotations

from typing import IO

from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP")
"""Formats in which EXIF alone says it. Others have boxes of their own, or are camera raw with a picture inside."""

_ORIENTATION, _UPRIGHT = 0x0112, 1


def orientation_of(file: IO[bytes]) -> int | None:
    """Return EXIF's orientation of a file, 1 to 8; None: its format says it in another way, or it is no picture.

    Args:
        file: can be read anywhere. Only some of it is.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            found = image.getexif().get(_ORIENTATION)
    except UnidentifiedImageError:
        return None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # damaged, or cut off
        return None
    return found if isinstance(found, int) and 1 <= found <= 8 else _UPRIGHT

"""The first frame of an animation that shows something: some begin with an empty or black one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

_ANIMATED = frozenset({"GIF", "WEBP", "PNG", "AVIF"})
_MOST_FRAMES = 64
_MOST_PIXELS = 64_000_000
"""Of all frames that are looked at, so that looking takes about as long as decoding one large picture."""

_LEAST_RANGE = 16
"""Of 255. Levels that differ by less are one colour to the eye, as in the first frames of a fade from black."""


def first_with_content(image: Image.Image) -> Image.Image:
    """Return an image, at a later frame if the first one shows nothing. If none shows anything, it is at the first.

    Args:
        image: loaded, at its first frame.
    """
    if image.format not in _ANIMATED:
        return image
    # The header of all but GIF says whether there are more frames, which costs less than a look at the pixels.
    may_have_more = image.format == "GIF" or _is_animated(image)
    if not may_have_more or not _is_empty(image) or not _is_animated(image):
        return image
    first = image.copy()
    budget = min(_MOST_FRAMES, _MOST_PIXELS // max(1, image.width * image.height))
    try:
        for number in range(1, min(getattr(image, "n_frames", 1), budget)):
            image.seek(number)
            image.load()
            if not _is_empty(image):
                return image
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  (decoders raise almost anything on a damaged frame; the first one is whole)
        return first
    return first


def _is_animated(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  (as above: a GIF is read on to tell)
        return False


def _is_empty(image: Image.Image) -> bool:
    """Tell whether all pixels have one colour, or none can be seen."""
    if image.mode in {"L", "RGB"} and "transparency" not in image.info:
        return all(high - low < _LEAST_RANGE for low, high in _ranges(image))
    *colours, alpha = _ranges(image.convert("RGBA"))
    if alpha[1] < _LEAST_RANGE:
        return True
    return all(high - low < _LEAST_RANGE for low, high in (*colours, alpha))


def _ranges(image: Image.Image) -> Sequence[tuple[int, int]]:
    found = image.getextrema()
    return [found] if image.mode == "L" else found  # type: ignore[list-item,return-value]

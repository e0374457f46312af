"""Colours as people see them: sRGB, on a ground where the picture is transparent.

Pictures without a profile, or with one that is sRGB up to rounding, keep their pixels, and so do those without
transparency (docs/decisions/0033-pictures-as-shown.md).
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

_MOST_KEPT_BYTES = 1 << 20
"""Larger profiles are read anew each time."""

_MOST_DIFFERENCE = 3
"""Of 255. A profile that changes no colour by more is taken as sRGB: its makers round in other ways."""

_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
"""What a profile must be of, by the mode of the picture's colours."""

_WHITE, _GREY = (255, 255, 255), (128, 128, 128)
_NEAR_WHITE = 255 - 48
_LEAST_SEEN = 0.05
_SAMPLED = (256, 256)
_WITH_ALPHA = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})


def as_shown(image: Image.Image) -> Image.Image:
    """Return a loaded image in sRGB and without transparency, or the image itself if it is so."""
    is_transparent = image.mode in _WITH_ALPHA or ("transparency" in image.info and image.mode in {"P", "L", "RGB"})
    profile = image.info.get("icc_profile")
    if not is_transparent and not profile:
        return image
    alpha = None
    if is_transparent:
        with_alpha = image if image.mode == "RGBA" else _with_alpha(image)
        alpha = with_alpha.getchannel("A")
        if alpha.getextrema()[0] == 255:
            alpha, image = None, with_alpha if image.mode == "P" else image
        else:
            image = with_alpha.convert("LA") if image.mode in {"LA", "La"} else with_alpha
    shown = _in_srgb(image, profile) if profile else image
    return shown if alpha is None else _on_ground(shown.convert("RGB"), alpha)


def _with_alpha(image: Image.Image) -> Image.Image:
    straight = {"RGBa": "RGBA", "La": "LA"}.get(image.mode)
    return (image.convert(straight) if straight else image).convert("RGBA")


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Return the image, without its transparency if it is changed."""
    mode = {"RGBA": "RGB", "P": "RGB", "PA": "RGB", "LA": "L"}.get(image.mode, image.mode)
    if mode not in _SPACES:
        return image
    # The cache compares whole profiles, which takes a microsecond or two for one of usual size.
    conversion = (
        _conversion(profile, mode) if len(profile) <= _MOST_KEPT_BYTES else _conversion.__wrapped__(profile, mode)
    )
    return image if conversion is None else conversion.apply(image if image.mode == mode else image.convert(mode))


@lru_cache(maxsize=32)
def _conversion(profile: bytes, mode: str) -> Any:
    """Return what converts pixels of ``mode`` to sRGB; None if the profile is sRGB, of other pixels, or damaged."""
    from PIL import ImageCms  # noqa: PLC0415  (most pictures need none)

    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space.strip() != _SPACES[mode]:
            return None
        conversion = ImageCms.buildTransform(
            opened,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        return None if _changes_nothing(conversion, mode) else conversion
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # a damaged profile is as none
        return None


def _changes_nothing(conversion: Any, mode: str) -> bool:
    if mode == "CMYK":
        return False
    steps = np.arange(0, 256, 17 if mode == "RGB" else 1, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3) if mode == "RGB" else steps[None]
    before = Image.fromarray(colours)
    after = conversion.apply(before)
    return int(np.abs(np.asarray(before.convert("RGB")).astype(int) - np.asarray(after)).max()) <= _MOST_DIFFERENCE


def _on_ground(colours: Image.Image, alpha: Image.Image) -> Image.Image:
    """Return the picture on white, as most programs show it, or on grey if on white nothing could be seen."""
    seen = np.asarray(alpha.resize(_SAMPLED, Image.Resampling.NEAREST), dtype=np.float32)
    levels = np.asarray(colours.resize(_SAMPLED, Image.Resampling.NEAREST).convert("L"))
    on_white = float(seen[levels < _NEAR_WHITE].sum())
    ground = Image.new("RGB", colours.size, _WHITE if on_white >= _LEAST_SEEN * float(seen.sum()) else _GREY)
    ground.paste(colours, mask=alpha)
    return ground

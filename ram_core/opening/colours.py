"""Colours as people see them: sRGB, on a ground where the picture is transparent.

Pictures without a profile, or with one that is sRGB up to rounding, keep their pixels, and so do those without
transparency (docs/decisions/0033-pictures-as-shown.md).
"""

from __future__ import annotations

import io
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from ram_core.opening import code_points

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ram_core.opening.code_points import CodePoints

_MOST_KEPT_BYTES = 1 << 20
"""Larger profiles are read anew each time."""

_MOST_DIFFERENCE = 3
"""Of 255. A profile that changes no colour by more is taken as sRGB: its makers round in other ways."""

_COLOURS = {"RGB": "RGB", "RGBA": "RGB", "P": "RGB", "PA": "RGB", "L": "L", "LA": "L", "CMYK": "CMYK"}
"""The mode of a picture's colours, by its own. Profiles for others are rare, and not applied."""

_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
"""What a profile must be of, by that."""

_WHITE, _GREY = (255, 255, 255), (128, 128, 128)
_NEAR_WHITE = 255 - 48
_LEAST_SEEN = 0.05
_SAMPLED = (256, 256)
_WITH_ALPHA = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})


class Shown(NamedTuple):
    """An image without transparency, and what makes (H, W, 3) pixels of it sRGB; None: they are.

    Few pixels are left when a picture is prepared for a model. Converting those costs next to nothing.
    """

    image: Image.Image
    convert: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None


def as_shown(image: Image.Image, declared: CodePoints | None = None) -> Shown:
    """Return how a loaded image is shown. It is the image itself if nothing in it is transparent.

    ``declared`` are colours that the file declares by numbers, if it does. A profile counts before them, but in a PNG
    (PNG specification, third edition, section 4.3; ISO 23000-22, section 7.3.6.4).
    """
    if declared is not None and not declared.is_srgb and (image.format == "PNG" or not image.info.get("icc_profile")):
        code_points.require_known(declared)
        image.info.pop("icc_profile", None)
        return Shown(as_shown(image).image, partial(code_points.in_srgb, declared))
    is_transparent = image.mode in _WITH_ALPHA or ("transparency" in image.info and image.mode in {"P", "L", "RGB"})
    profile = image.info.get("icc_profile")
    if not is_transparent and not profile:
        return Shown(image, None)
    alpha = None
    if is_transparent:
        with_alpha = image if image.mode == "RGBA" else _with_alpha(image)
        alpha = with_alpha.getchannel("A")
        if alpha.getextrema()[0] == 255:
            alpha, image = None, with_alpha if image.mode == "P" else image
        else:
            image = with_alpha.convert("LA") if image.mode in {"LA", "La"} else with_alpha
    shown = _in_srgb(image, profile) if profile else Shown(image, None)
    return shown if alpha is None else shown._replace(image=_on_ground(shown.image.convert("RGB"), alpha))


def _with_alpha(image: Image.Image) -> Image.Image:
    straight = {"RGBa": "RGBA", "La": "LA"}.get(image.mode)
    return (image.convert(straight) if straight else image).convert("RGBA")


def _in_srgb(image: Image.Image, profile: bytes) -> Shown:
    """Convert grey and CMYK at once, without their transparency, and colours when they are prepared."""
    mode = _COLOURS.get(image.mode)
    if mode is None:
        return Shown(image, None)
    # The cache compares whole profiles, which takes a microsecond or two for one of usual size.
    find = _conversion if len(profile) <= _MOST_KEPT_BYTES else _conversion.__wrapped__
    conversion = find(profile, mode)
    if conversion is None:
        return Shown(image, None)
    if mode == "RGB":
        return Shown(image, partial(_converted, conversion))
    return Shown(conversion.apply(image if image.mode == mode else image.convert(mode)), None)


def _converted(conversion: Any, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(conversion.apply(Image.fromarray(pixels)))


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

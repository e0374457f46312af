"""From pictures to the input of networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from ram_core.errors import ImageError
from ram_core.transforms import IMAGENET_MEAN, IMAGENET_STD, Sides, Triple, normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Preparation:
    """How a network wants its pictures.

    Attributes:
        sides: their size.
        mean: channel means, of pixels in 0..1.
        std: channel deviations, of pixels in 0..1.
    """

    sides: Sides
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD


def require_picture(picture: NDArray[np.uint8]) -> None:
    """Raise ``ImageError`` unless a picture is (H, W, 3) uint8 and has pixels."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ImageError(f"pixels are {picture.dtype} {picture.shape}, not uint8 (H, W, 3)")


def resized(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Return the picture at another size; the same one if it has that size already."""
    if picture.shape[1::-1] == (width, height):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def network_input(
    pictures: Sequence[NDArray[np.uint8]], mean: Triple, std: Triple, device: torch.device
) -> torch.Tensor:
    """Return (B, 3, H, W) float32, normalised, on the device, from pictures of one size."""
    return normalise(torch.from_numpy(np.stack(pictures)).to(device), mean, std)


def padded(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """Fill (B, 3, H, W) up with zeros, at the right and the bottom, to (B, 3, side, side)."""
    return functional.pad(pixels, (0, side - pixels.shape[3], 0, side - pixels.shape[2]))

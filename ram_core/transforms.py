"""From image to pixels: only numpy and Pillow, thread-safe, also for processes that never load torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ram_core.errors import ImageError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

Triple = tuple[float, float, float]

# ImageNet's channel means and deviations, which RAM's inference uses (its training code used CLIP's).
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
# EfficientNet-Lite: pixels from -1 to 1 (arXiv:1905.11946's reference code).
CENTRED_MEAN: Triple = (0.5, 0.5, 0.5)
CENTRED_STD: Triple = (0.5, 0.5, 0.5)

SIDEWAYS = frozenset(
    {Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270, Image.Transpose.TRANSPOSE, Image.Transpose.TRANSVERSE}
)
"""What exchanges the width and the height of a picture."""

_MOST_TALL = 1.4
_LEAST_REDUCED = 2
"""Pillow 13 resizes the rows of a picture first if its height is at most this many times its width, and its
width at least this many times the result's. Photographs of 4:3 and more than a megapixel are such pictures."""

_FULL_RANGES = (1, 255, 1023, 4095, 16383, 65535)
"""The largest sample of 1, 8, 10, 12, 14 and 16 bits."""

_LEVELS = {(IMAGENET_MEAN, IMAGENET_STD): "imagenet", (CENTRED_MEAN, CENTRED_STD): "centred"}


@dataclass(frozen=True, slots=True)
class SquashTransform:
    """Squash the whole image into a square, whatever its aspect ratio.

    RAM, RAM++ and Tag2Text do this. With these defaults the result is equal bit for bit to the official inference
    transform (``get_transform`` of Recognize Anything).

    Attributes:
        size: side of the square, in pixels.
        mean: channel means, of pixels in 0..1.
        std: channel deviations, of pixels in 0..1.
    """

    size: int = 384
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD

    @property
    def name(self) -> str:
        """The name of resizing and normalisation in the generation's fingerprint."""
        levels = _LEVELS.get((self.mean, self.std), f"{self.mean}-{self.std}")
        return f"squash-{self.size}-bilinear-{levels}"

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return (S, S, 3) uint8 RGB. Raises ``ImageError`` for an image with an empty side."""
        # Grey stays grey until it is small: the three channels would be resized to the same values.
        return np.asarray(self._small(_levels(image)).convert("RGB"))

    def turned(self, image: Image.Image, turn: Image.Transpose) -> NDArray[np.uint8]:
        """Return what ``self(image.transpose(turn))`` returns, where possible without turning all pixels.

        Pillow resizes rows first, unless the picture is tall or hardly larger than the result, and rounds in between.
        So the columns of a picture that lies on its side come first here, which are the rows of the upright one.
        """
        levels = _levels(image)
        if turn in SIDEWAYS:
            upright_width, upright_height = levels.height, levels.width
            if upright_height > _MOST_TALL * upright_width or upright_width < _LEAST_REDUCED * self.size:
                return self(levels.transpose(turn))
            levels = levels.resize((levels.width, self.size), Image.Resampling.BILINEAR)
        return np.asarray(self._small(levels).transpose(turn).convert("RGB"))

    def _small(self, levels: Image.Image) -> Image.Image:
        return levels.resize((self.size, self.size), Image.Resampling.BILINEAR)


@dataclass(frozen=True, slots=True)
class ReadingTransform:
    """Keep the aspect ratio and reduce an image to what a reader of text can use. Nothing is enlarged.

    Attributes:
        side: maximum length of the longer side, in pixels.
    """

    side: int = 4096

    @property
    def size(self) -> int:
        """Half of ``side``: decoders keep twice the size of the shorter side, so the longer one is never too short."""
        return self.side // 2

    @property
    def name(self) -> str:
        """The name of this resizing in the reader's fingerprint."""
        return f"fit-{self.side}-box"

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 RGB. Raises ``ImageError`` for an image with an empty side."""
        rgb = to_rgb(image)
        if max(rgb.size) > self.side:
            scale = self.side / max(rgb.size)
            width, height = (max(1, round(side * scale)) for side in rgb.size)
            rgb = rgb.resize((width, height), Image.Resampling.BOX)
        return np.asarray(rgb)


@dataclass(frozen=True, slots=True)
class Sides:
    """The size of pictures for a network that keeps their aspect ratio.

    Attributes:
        short: length of the shorter side, in pixels, unless the longer one would get too long.
        long: maximum length of the longer side, in pixels.
    """

    short: int
    long: int

    def scale(self, width: int, height: int) -> float:
        """Return the factor from a picture's size to this one."""
        return min(self.short / min(width, height), self.long / max(width, height))

    def of(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height of a resized picture. Resizing the result again changes nothing."""
        # The side that decides must come out exactly, whatever the rounding of the factor.
        if self.short * max(width, height) <= self.long * min(width, height):
            whole, part = self.short, max(1, self.short * max(width, height) // min(width, height))
            return (whole, part) if width < height else (part, whole)
        whole, part = self.long, max(1, round(self.long * min(width, height) / max(width, height)))
        return (part, whole) if width < height else (whole, part)


@dataclass(frozen=True, slots=True)
class LocatingTransform:
    """Keep the aspect ratio and reduce an image to what every network of a locator can use. Nothing is enlarged.

    Attributes:
        networks: sizes that the networks want; the picture is large enough for each of them.
    """

    networks: tuple[Sides, ...] = (Sides(800, 1333),)

    @property
    def size(self) -> int:
        """Half of the longest ``short``: decoders keep twice the size of the shorter side."""
        return (max(sides.short for sides in self.networks) + 1) // 2

    @property
    def name(self) -> str:
        """The name of this resizing in the locator's fingerprint."""
        return "fit-" + "+".join(f"{sides.short}:{sides.long}" for sides in self.networks) + "-bilinear"

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 RGB. Raises ``ImageError`` for an image with an empty side."""
        rgb = to_rgb(image)
        largest = max(self.networks, key=lambda sides: sides.scale(*rgb.size))
        if largest.scale(*rgb.size) < 1:
            rgb = rgb.resize(largest.of(*rgb.size), Image.Resampling.BILINEAR)
        return np.asarray(rgb)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded image of any mode to RGB as a viewer would show it, except that alpha is dropped.

    As in the official RAM code, transparency is dropped and not blended. ``ram_core.pictures`` blends it when it opens
    a file. Pillow clips wider samples when it converts them. Here they are scaled to 8 bits: those of 16 bits from the
    range that they use (``full_range``), floats and 32-bit integers from their own.

    An RGB image is returned itself: a copy of 48 megapixels takes 192 MB. Copy the result before you change it.

    Raises:
        ImageError: the image has an empty side.
    """
    levels = _levels(image)
    return levels if levels.mode == "RGB" else levels.convert("RGB")


def _levels(image: Image.Image) -> Image.Image:
    """Convert as :func:`to_rgb`, but keep grey images in one channel (mode L). May return the image itself."""
    if not (image.width and image.height):
        raise ImageError(f"the image is empty: {image.width} x {image.height} pixels")
    if image.mode in {"RGB", "L"}:
        image.load()  # as a conversion would: the file may be closed next
        return image
    if image.mode in {"1", "LA"}:
        return image.convert("L")
    if image.mode.startswith("I") or image.mode == "F":
        return wide_grey(image)
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")  # keeps Pillow from warning about transparency given as bytes
    return image.convert("RGB")


def wide_grey(image: Image.Image) -> Image.Image:
    """Return an image of 16-bit or 32-bit integers or of floats in mode L."""
    if not image.mode.startswith("I;16"):
        return Image.fromarray(_stretch(np.asarray(image, dtype=np.float64)))
    samples = np.asarray(image, dtype=np.uint16)
    full = full_range(int(samples.max(initial=0)))
    if full == _FULL_RANGES[-1]:
        return Image.fromarray((samples >> 8).astype(np.uint8))
    return Image.fromarray(eight_bits(samples, full))


def eight_bits(samples: NDArray[np.uint16], full: int) -> NDArray[np.uint8]:
    """Return samples of 0..full as 0..255."""
    return (np.arange(full + 1) * 255 // full).astype(np.uint8)[samples]  # a table takes less memory than arithmetic


def full_range(largest: int) -> int:
    """Return the largest value of samples of which ``largest`` is the brightest in a picture, at most 65535.

    Samples of 10, 12 or 14 bits are stored in 16, and hardly a file says so. Taken as 16 bits they would be black.
    """
    return next(full for full in _FULL_RANGES if largest <= full)


def normalise(pixels: torch.Tensor, mean: Triple, std: Triple, *, channels_last: bool = False) -> torch.Tensor:
    """Convert pixels to the input of a network, on the device they are on.

    Args:
        pixels: (B, S, S, 3) uint8.
        mean: channel means, of pixels in 0..1.
        std: channel deviations, of pixels in 0..1.
        channels_last: the layout of the result in memory: that of ``pixels``, as convolutions want it. The numbers are
            the same.

    Returns:
        (B, 3, S, S) float32, equal bit for bit to ``(pixels / 255 - mean) / std`` computed in float32.
    """
    turned = pixels.permute(0, 3, 1, 2)  # (B, 3, S, S)
    channels = turned.float() if channels_last else turned.contiguous().float()
    centre, scale = _means_on(pixels.device, mean, std)
    return channels.div_(255).sub_(centre).div_(scale)


@cache
def _means_on(device: torch.device, mean: Triple, std: Triple) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (1, 3, 1, 1) means and deviations. They are kept: copying numbers to a GPU waits until it is done."""
    import torch  # noqa: PLC0415  (this module must not need it)

    with torch.inference_mode(mode=False):
        centre, scale = (torch.tensor(each, device=device).view(1, 3, 1, 1) for each in (mean, std))
    return centre, scale


def _stretch(samples: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Scale samples of unknown range to 0..255.

    The range of samples within 0..65535 is assumed to be the smallest of ``_FULL_RANGES`` that has them all. Others are
    scaled from minimum to maximum.
    """
    finite = np.where(np.isfinite(samples), samples, 0.0)
    low, high = float(finite.min()), float(finite.max())
    span = max(high - low, float(np.finfo(np.float64).tiny))
    if low >= 0 and high <= _FULL_RANGES[-1]:
        low, span = 0.0, float(next(full for full in _FULL_RANGES if high <= full))
    return ((finite - low) / span * 255).astype(np.uint8)


def require_pixels(pixels: NDArray[np.uint8], size: int) -> None:
    """Raise ``ImageError`` unless ``pixels`` are (B, size, size, 3) uint8."""
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3):
        raise ImageError(
            f"pixels are {pixels.dtype} {pixels.shape}, not uint8 (B, {size}, {size}, 3); "
            "make them with `preprocessing`"
        )

"""Random views of images, as the official training makes them. Only numpy and Pillow, for processes that load data.

Randomness comes from a generator that the caller makes with ``generator``: it depends on the seed, the epoch and the
image, so a view is the same whoever makes it, in whatever order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from ram_core.transforms import to_rgb

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Operation = Callable[[Image.Image, float], Image.Image]

LEVELS = 10  # levels of an operation's strength
_GREY = (128, 128, 128)  # what comes into the picture from outside
_RATIOS = (3 / 4, 4 / 3)  # of the width of a crop to its height
_CROPS = 10  # crops that are tried before a central one is taken
# Strengths at the highest level.
_SHEAR, _SHIFT_PIXELS, _DEGREES = 0.3, 10.0, 30.0


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How views are made: a random crop, mirrored or not, then some of ten operations on colours or geometry.

    Attributes:
        size: side of the view, in pixels.
        least_area: smallest share of the picture that a crop has.
        operations: how many operations are drawn; the same one may be drawn again.
        level: their strength, from 0 to 10. At 5, which the official recipes use, brightness and sharpness do nothing.
        probability: with which a drawn operation is applied.
    """

    size: int
    least_area: float = 0.2
    operations: int = 2
    level: int = 5
    probability: float = 0.5

    def __call__(self, image: Image.Image, random: np.random.Generator) -> NDArray[np.uint8]:
        """Return (S, S, 3) uint8 RGB. Raises ``ImageError`` for an image with an empty side."""
        view = to_rgb(image)
        view = view.crop(self._box(view, random)).resize((self.size, self.size), Image.Resampling.BICUBIC)
        if random.random() < 0.5:
            view = ImageOps.mirror(view)
        for operation in random.choice(len(OPERATIONS), self.operations):
            backwards, applied = random.random() < 0.5, random.random() < self.probability
            if applied:
                strength = self.level / LEVELS
                view = _FUNCTIONS[operation](view, -strength if backwards else strength)
        return np.asarray(view)

    def _box(self, image: Image.Image, random: np.random.Generator) -> tuple[int, int, int, int]:
        """Draw a crop: its area and its aspect ratio (arXiv:1409.4842, section 6)."""
        width, height = image.size
        for _ in range(_CROPS):
            area = width * height * random.uniform(self.least_area, 1.0)
            ratio = math.exp(random.uniform(math.log(_RATIOS[0]), math.log(_RATIOS[1])))
            wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < wide <= width and 0 < high <= height:
                left, top = int(random.integers(width - wide + 1)), int(random.integers(height - high + 1))
                return left, top, left + wide, top + high
        ratio = min(max(width / height, _RATIOS[0]), _RATIOS[1])
        wide, high = min(width, max(1, round(height * ratio))), min(height, max(1, round(width / ratio)))
        left, top = (width - wide) // 2, (height - high) // 2
        return left, top, left + wide, top + high


@dataclass(frozen=True, slots=True)
class View:
    """One random view of one image in one epoch: what a decoder is given to make it, here or in another process.

    Attributes:
        augmentation: how views are made.
        key: seed, epoch, image and number of the view, as ``generator`` takes them.
    """

    augmentation: Augmentation
    key: tuple[int, int, int, int]

    @property
    def size(self) -> int:
        """Least length of the image's shorter side, in pixels, from which no crop has to be enlarged."""
        least = max(self.augmentation.least_area * _RATIOS[0], 1e-4)
        return math.ceil(self.augmentation.size / math.sqrt(least))

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return (S, S, 3) uint8 RGB. Raises ``ImageError`` for an image with an empty side."""
        return self.augmentation(image, generator(*self.key))


def generator(seed: int, epoch: int, index: int, view: int = 0) -> np.random.Generator:
    """Return the randomness of one view.

    Args:
        seed: of the training.
        epoch: from 0.
        index: of the image in the data set.
        view: number of the view, where an image has several.
    """
    return np.random.default_rng((seed, epoch, index, view))


def _factor(strength: float) -> float:
    """Return the factor of brightness or sharpness, from 0.1 to 1.9; it has no direction."""
    return 1.8 * abs(strength) + 0.1


def _moved(image: Image.Image, matrix: tuple[float, float, float, float, float, float]) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR, fillcolor=_GREY
    )


OPERATIONS: dict[str, Operation] = {
    "identity": lambda image, _: image,
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "brightness": lambda image, strength: ImageEnhance.Brightness(image).enhance(_factor(strength)),
    "sharpness": lambda image, strength: ImageEnhance.Sharpness(image).enhance(_factor(strength)),
    "equalise": lambda image, _: ImageOps.equalize(image),
    "shear_x": lambda image, strength: _moved(image, (1, _SHEAR * strength, 0, 0, 1, 0)),
    "shear_y": lambda image, strength: _moved(image, (1, 0, 0, _SHEAR * strength, 1, 0)),
    "translate_x": lambda image, strength: _moved(image, (1, 0, _SHIFT_PIXELS * strength, 0, 1, 0)),
    "translate_y": lambda image, strength: _moved(image, (1, 0, 0, 0, 1, _SHIFT_PIXELS * strength)),
    "rotate": lambda image, strength: image.rotate(
        _DEGREES * strength, resample=Image.Resampling.BILINEAR, fillcolor=_GREY
    ),
}
_FUNCTIONS = tuple(OPERATIONS.values())

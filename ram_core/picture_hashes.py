"""Two hashes of what a picture shows: one that near copies share but for some bits, and one of the pixels themselves.

The first is the hash of low frequencies that the field uses (C. Zauner, "Implementation and Benchmarking of Perceptual
Image Hash Functions", 2010, section 3.2.1), of the upright picture in sRGB: what the decoder prepares for a model.
Only numpy and Pillow; thread-safe.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

HASH_BITS = 64
PLAIN = 0
"""The hash of a picture with next to no structure, such as a black one. No other picture has it: all of them would be
near copies of each other."""

LEAST_DEVIATION = 4.0
"""Of the luminance, in levels of 255, at ``_SIDE`` x ``_SIDE``. Below it a picture is plain. The photographs of
``benchmarks/bench_near.py`` have 11 and more."""

_SIDE = 32


class PictureHashes(NamedTuple):
    """What one picture yields.

    Attributes:
        shape: ``HASH_BITS`` bits as a signed number: half of them are set. ``PLAIN``: the picture has no structure.
        pixels: 64 bits likewise, of all prepared pixels and the true size; None: the pixels were not prepared for
            recognition. Equal ones mean that the pictures show the same pixels, if the same model looked at them.
    """

    shape: int
    pixels: int | None


def shape_of(pixels: NDArray[np.uint8]) -> int:
    """Return the hash of low frequencies of (H, W, 3) uint8 RGB pixels; see ``PictureHashes``.

    The picture is squashed into a square first, so a squashed picture has the hash of the original.
    """
    small = Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    levels = np.asarray(small, dtype=np.float64)
    if levels.std() < LEAST_DEVIATION:
        return PLAIN
    waves = (_COSINES @ levels @ _COSINES.T)[_ROWS, _COLUMNS]  # (64,)
    bits = np.packbits(waves > np.median(waves))
    return int.from_bytes(bits.tobytes(), "big", signed=True)


def pixels_of(pixels: NDArray[np.uint8], width: int, height: int) -> int:
    """Return the hash of (H, W, 3) uint8 prepared pixels of a picture of this true size; see ``PictureHashes``."""
    of = hashlib.sha256(f"{pixels.shape[1]} {pixels.shape[0]} {width} {height} ".encode())
    of.update(np.ascontiguousarray(pixels).data)
    return int.from_bytes(of.digest()[: HASH_BITS // 8], "big", signed=True)


def _cosines() -> NDArray[np.float64]:
    """Return the rows of the cosine transform (DCT-II), without its factors: the comparison does not need them."""
    place = np.arange(_SIDE)
    return np.cos(np.pi * (2 * place[None] + 1) * place[:, None] / (2 * _SIDE))


def _lowest() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the places of the ``HASH_BITS`` lowest frequencies, without the mean: by their sum, then the most even."""
    rows, columns = (each.ravel() for each in np.indices((_SIDE, _SIDE)))
    order = np.lexsort((rows, abs(rows - columns), rows + columns))[1 : HASH_BITS + 1]
    return rows[order], columns[order]


_COSINES = _cosines()
_ROWS, _COLUMNS = _lowest()

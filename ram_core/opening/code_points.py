"""Colours that a file declares by numbers instead of a profile (ITU-T H.273): cICP of PNG, nclx of HEIC and AVIF.

Pixels are converted to sRGB: made linear, mixed by the chromaticities of both, and encoded again. High dynamic range
(PQ and HLG) is brought into the range of a screen, with the white of paper at 203 cd/m² (ITU-R BT.2408).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ram_core.errors import UnreadableImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SEARCHED_BYTES = 1 << 20
_NCLX = re.compile(rb"colrnclx(....)", re.DOTALL)
_PNG_HEAD, _PNG_CHUNK = 8, b"cICP"

# Chromaticities of red, green and blue, all with the white D65 (H.273, table 2).
_PRIMARIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    5: ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060)),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
_D65 = (0.3127, 0.3290)
_UNKNOWN = 2
_SRGB_PRIMARIES = 1

# Transfer characteristics (H.273, table 3). Those of television are shown as sRGB is.
_AS_SRGB = frozenset({1, 2, 6, 13, 14, 15})
_GAMMAS = {4: 2.2, 5: 2.8}
_LINEAR, _PQ, _HLG = 8, 16, 18

_PAPER_WHITE = 203.0
_BRIGHTEST = {_PQ: 10_000.0, _HLG: 1_000.0}
_SHOWN_TO = 1_000.0
"""In cd/m²: what is as bright as this or brighter becomes white."""


class CodePoints(NamedTuple):
    """What a file declares: the numbers of its primaries and of its transfer characteristics."""

    primaries: int
    transfer: int

    @property
    def is_srgb(self) -> bool:
        """Whether pixels are shown as they are."""
        return self.primaries in {_SRGB_PRIMARIES, _UNKNOWN} and self.transfer in _AS_SRGB


def of_file(body: bytes | memoryview, format_: str | None) -> CodePoints | None:
    """Return what a PNG, HEIC or AVIF declares of its main picture; None: nothing."""
    if format_ == "PNG":
        return _of_png(body)
    if format_ not in {"HEIF", "AVIF"}:
        return None
    found = _NCLX.search(bytes(body[:_SEARCHED_BYTES]))  # that of the main picture comes first
    if found is None:
        return None
    return CodePoints(int.from_bytes(found[1][:2], "big"), int.from_bytes(found[1][2:4], "big"))


def _of_png(body: bytes | memoryview) -> CodePoints | None:
    at = _PNG_HEAD
    while at + 12 <= len(body):
        size, kind = int.from_bytes(body[at : at + 4], "big"), bytes(body[at + 4 : at + 8])
        if kind == _PNG_CHUNK and size == 4:
            return CodePoints(body[at + 8], body[at + 9])
        if kind in {b"PLTE", b"IDAT", b"IEND"}:
            return None
        at += 12 + size
    return None


def require_known(points: CodePoints) -> None:
    """Raise ``UnreadableImageError`` for colours that would be shown wrongly."""
    is_known = points.transfer in _AS_SRGB | _GAMMAS.keys() | {_LINEAR, _PQ, _HLG}
    if not is_known or points.primaries not in _PRIMARIES.keys() | {_UNKNOWN}:
        raise UnreadableImageError(
            "unsupported",
            f"its colours are declared as primaries {points.primaries} and transfer {points.transfer} of ITU-T H.273, "
            "which is not supported; convert it to sRGB",
        )


def in_srgb(points: CodePoints, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W, 3) pixels of such colours in sRGB."""
    light = _linear(points.transfer)[pixels]  # (H, W, 3) 1: the white of paper
    if points.transfer == _HLG:
        light = _as_displayed(light)
    if points.primaries not in {_SRGB_PRIMARIES, _UNKNOWN}:
        light = light @ _matrix(points.primaries).T
    if points.transfer in _BRIGHTEST:
        light = _in_range(light)
    return _encoded(light.clip(0, 1))


@lru_cache(maxsize=8)
def _linear(transfer: int) -> NDArray[np.float32]:
    """Return (256,) the light of each level."""
    level = np.arange(256) / 255
    if transfer in _GAMMAS:
        light = level ** _GAMMAS[transfer]
    elif transfer == _LINEAR:
        light = level
    elif transfer == _PQ:  # SMPTE ST 2084
        root = level ** (32 / 2523)
        light = (np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610)
        light = light * _BRIGHTEST[_PQ] / _PAPER_WHITE
    elif transfer == _HLG:  # ITU-R BT.2100, of the scene: 0 to 1
        light = np.where(level <= 0.5, level**2 / 3, (np.exp((level - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    else:
        light = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


def _as_displayed(scene: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the light of a display of 1,000 cd/m² from that of the scene (BT.2100: the gamma of the system is 1.2)."""
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)
    found: NDArray[np.float32] = (
        scene * luminance[..., None] ** np.float32(0.2) * np.float32(_BRIGHTEST[_HLG] / _PAPER_WHITE)
    )
    return found


def _in_range(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring what is brighter than paper into the range, by the extended curve of Reinhard and others (2002)."""
    brightest = light.max(axis=-1, keepdims=True).clip(1e-6, None)
    top = np.float32(_SHOWN_TO / _PAPER_WHITE)
    found: NDArray[np.float32] = light * ((1 + brightest / top**2) / (1 + brightest))
    return found


def _encoded(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    level = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** np.float32(1 / 2.4) - 0.055)
    found: NDArray[np.uint8] = np.rint(level * 255).astype(np.uint8)
    return found


@lru_cache(maxsize=8)
def _matrix(primaries: int) -> NDArray[np.float32]:
    """Return (3, 3) from linear light of these primaries to that of sRGB."""
    found: NDArray[np.float32] = (np.linalg.inv(_to_xyz(_SRGB_PRIMARIES)) @ _to_xyz(primaries)).astype(np.float32)
    return found


def _to_xyz(primaries: int) -> NDArray[np.float64]:
    columns = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in _PRIMARIES[primaries]]).T
    x, y = _D65
    found: NDArray[np.float64] = columns * np.linalg.solve(columns, np.array([x / y, 1.0, (1 - x - y) / y]))
    return found

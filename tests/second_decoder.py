"""What libvips makes of a picture, to compare with: other readers of formats and colours than Pillow's."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyvips
import tifffile
from PIL import Image

from ram_core.opening import raw
from ram_core.pictures import MAX_PIXELS, decode_for_all
from ram_core.transforms import ReadingTransform
from tests import poison, profiles

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MOST_MEAN, MOST_SHARE, FAR = 2.0, 0.002, 24
"""The bound: levels (of 255) differ by no more than the first on average, and no more than this share of the pixels by
more than the last. Both decoders round colours in their own ways, and JPEGs at edges of colours."""

SIDE = 4096
"""Larger pictures are not compared: ours would be reduced."""

_WITHOUT_REFERENCE = {"cmyk", "cmyk-tiff", "lab-tiff", "float-tiff", "tall", "wide", "heic", "jpeg-xl"}
"""Without a profile CMYK has no colours of its own, floats have no range, and libvips takes others than Pillow. Two
are longer than ``SIDE``, and of two formats its wheel has no reader."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two decoded pictures, in levels of 255.

    Attributes:
        mean: over all samples.
        largest: of one sample.
        far: share of the samples that differ by more than ``FAR``.
    """

    mean: float
    largest: int
    far: float

    @property
    def is_bounded(self) -> bool:
        """Whether both show the same picture."""
        return self.mean <= MOST_MEAN and self.far <= MOST_SHARE


def ours(body: bytes) -> NDArray[np.uint8]:
    """Return (H, W, 3) what a model or a person gets, at full size up to ``SIDE``. Raises ``UnreadableImageError``."""
    return decode_for_all(body, [ReadingTransform(SIDE)], MAX_PIXELS)[0].pixels


def theirs(body: bytes) -> NDArray[np.uint8]:
    """Return the same of libvips. Raises ``pyvips.Error``."""
    image = pyvips.Image.new_from_buffer(body, "", access="random").autorot()
    if image.format in {"ushort", "uint"}:
        largest = image.extract_band(0, n=min(3, image.bands)).max()
        full = next((full for full in (255, 1023, 4095, 16383) if largest <= full), 65535)
        if full != 65535:
            image = (image * (65535 / full)).cast("ushort")
    if image.get_typeof("icc-profile-data"):
        image = image.icc_transform("srgb", intent="relative", black_point_compensation=True)
    if image.interpretation != "srgb":
        image = image.colourspace("srgb")
    if image.hasalpha():
        image = image.flatten(background=255)
    found = image.cast("uchar").numpy()
    found = found[..., None] if found.ndim == 2 else found
    return np.repeat(found, 3, axis=-1) if found.shape[-1] == 1 else found[..., :3]


def compare(body: bytes) -> Difference | None:
    """Return how far the two are apart. None: libvips has no reader for the file, or it is raw or longer than ``SIDE``.

    Raises:
        UnreadableImageError: we do not read it.
        AssertionError: they are not of the same size.
    """
    mine = ours(body).astype(int)
    if raw.format_of(body):
        return None
    try:
        other = theirs(body)
    except pyvips.Error:
        return None
    if max(other.shape) > SIDE:
        return None
    assert mine.shape == other.shape, (mine.shape, other.shape)
    apart = np.abs(mine - other)
    return Difference(round(float(apart.mean()), 3), int(apart.max()), round(float((apart > FAR).mean()), 5))


@cache
def written() -> dict[str, bytes]:
    """Return pictures of every format and mode that Pillow and tifffile write and libvips reads, by name."""
    scene = poison.detailed(320, 240)
    found = {f"odd {odd.name}": odd.body for odd in poison.odd() if odd.name not in _WITHOUT_REFERENCE}
    for name, (kind, options) in _KINDS.items():
        found |= {f"{name} {mode}": _encoded(scene, mode, kind, options) for mode in _MODES[kind]}
        found |= (
            {f"{name} profile": _encoded(scene, "RGB", kind, options | {"icc_profile": profiles.exchanged()})}
            if kind != "GIF"
            else {}
        )
    return found | _tiffs(scene)


_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG 4:2:0": ("JPEG", {"quality": 90}),
    "JPEG 4:2:2": ("JPEG", {"quality": 90, "subsampling": "4:2:2"}),
    "JPEG 4:4:4": ("JPEG", {"quality": 95, "subsampling": 0}),
    "JPEG progressive": ("JPEG", {"quality": 85, "progressive": True}),
    "PNG": ("PNG", {}),
    "WebP": ("WEBP", {"quality": 90}),
    "WebP lossless": ("WEBP", {"lossless": True}),
    "GIF": ("GIF", {}),
    "TIFF": ("TIFF", {}),
    "TIFF LZW": ("TIFF", {"compression": "tiff_lzw"}),
    "TIFF deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "TIFF packbits": ("TIFF", {"compression": "packbits"}),
    "AVIF": ("AVIF", {"quality": 90, "speed": 10}),
}
_MODES = {
    "JPEG": ("RGB", "L"),
    "PNG": ("RGB", "L", "RGBA", "LA", "P", "1"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("P", "L"),
    "TIFF": ("RGB", "L", "RGBA", "LA", "P", "1"),
    "AVIF": ("RGB", "RGBA"),
}


def _encoded(scene: Image.Image, mode: str, kind: str, options: dict[str, Any]) -> bytes:
    picture = scene
    if mode in {"RGBA", "LA"}:
        picture = scene.convert("RGBA")
        picture.putalpha(Image.linear_gradient("L").resize(scene.size))
    return poison.encoded(picture.convert(mode), kind, **options)


def _tiffs(scene: Image.Image) -> dict[str, bytes]:
    rgb = np.asarray(scene)
    deep = rgb.astype(np.uint16) << 8 | rgb
    planes = np.moveaxis(rgb, -1, 0)
    alpha = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
    return {
        f"tifffile {name}": _tiff(samples, **options)
        for name, (samples, options) in {
            "16 bits": (deep, {"photometric": "rgb"}),
            "16 bits big-endian": (deep, {"photometric": "rgb", "byteorder": ">"}),
            "16 bits deflate": (deep, {"photometric": "rgb", "compression": "zlib", "predictor": True}),
            "16 bits grey": (deep[..., 1], {}),
            "12 bits in 16": (deep >> 4, {"photometric": "rgb"}),
            "12 bits in 16 deflate": (deep >> 4, {"photometric": "rgb", "compression": "zlib"}),
            "12 bits in 16 grey": (deep[..., 1] >> 4, {}),
            "14 bits in 16 big-endian": (deep >> 2, {"photometric": "rgb", "byteorder": ">"}),
            "planes": (planes, {"photometric": "rgb", "planarconfig": "separate"}),
            "planes deflate": (planes, {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"}),
            "16 bits planes deflate": (
                np.moveaxis(deep, -1, 0), {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"}
            ),
            "white is zero": (rgb[..., 0], {"photometric": "miniswhite"}),
            "16 bits white is zero": (deep[..., 0], {"photometric": "miniswhite"}),
            "tiles": (rgb, {"photometric": "rgb", "tile": (64, 64)}),
            "tiles deflate": (rgb, {"photometric": "rgb", "tile": (64, 64), "compression": "zlib"}),
            "alpha": (alpha, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
            "premultiplied": (alpha, {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
            "bigtiff": (rgb, {"photometric": "rgb", "bigtiff": True}),
        }.items()
    }  # fmt: skip


def _tiff(samples: NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **options)
    return file.getvalue()


ENDINGS = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".ppm", ".pgm", ".jxl"}
)


def pictures_in(folder: Path, most_bytes: int = 20_000_000) -> list[Path]:
    """Return the files below a folder that are named as pictures, in order, without empty and very large ones."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS and path.is_file() and 0 < path.stat().st_size <= most_bytes
    )

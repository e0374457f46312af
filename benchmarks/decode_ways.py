"""Ways from the bytes of a picture to a small square of pixels: ours, plainer ones, and those of other libraries.

Libraries that are not installed are left out: none of them is needed by anything but ``bench_decode``.
"""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from ram_core.pictures import DRAFT_FACTOR, FORMATS
from ram_core.transforms import SquashTransform
from workers.pipeline.decode import decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Way = Callable[[bytes, int], NDArray[np.uint8]]

MAX_PIXELS = 1 << 28

LOADERS = {"png": "png_decode", "webp": "webp_decode", "tiff": "tiff_decode"}
"""Functions of imagecodecs, by the beginning of the name of a format."""


@dataclass(frozen=True, slots=True)
class Copying(SquashTransform):
    """The transform as it was before: all pixels are turned and converted to RGB, even where they are RGB."""

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return (S, S, 3) uint8 RGB."""
        return resized(image.convert("RGB"), self.size)

    def turned(self, image: Image.Image, turn: Image.Transpose) -> NDArray[np.uint8]:
        """Return the pixels of the upright image."""
        return self(image.transpose(turn))


def resized(image: Image.Image, size: int, gap: float | None = None) -> NDArray[np.uint8]:
    """Squash as RAM does; with ``gap``, after a reduction by whole numbers to that many times the size."""
    small = image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=gap)
    return np.asarray(small.convert("RGB"))


def full(body: bytes, size: int) -> NDArray[np.uint8]:
    """Decode every pixel, turn, convert and resize: the straightforward way, and the reference for pixels."""
    with Image.open(io.BytesIO(body)) as image:
        return resized(ImageOps.exif_transpose(image).convert("RGB"), size)


def ours(body: bytes, size: int) -> NDArray[np.uint8]:
    """Decode as a worker does."""
    return decode(body, SquashTransform(size), MAX_PIXELS).pixels


def before(body: bytes, size: int) -> NDArray[np.uint8]:
    """Decode as a worker did before it avoided passes over all pixels."""
    return decode(body, Copying(size), MAX_PIXELS).pixels


def rougher(factor: float) -> Way:
    """Return the way that decodes JPEGs at ``factor`` times the size or more, and reduces others to that first."""

    def way(body: bytes, size: int) -> NDArray[np.uint8]:
        image = Image.open(io.BytesIO(body), formats=FORMATS)
        scale = factor * size / min(image.size)
        is_draft = image.format == "JPEG" and scale <= 1
        if is_draft:
            image.draft(None, (round(image.width * scale), round(image.height * scale)))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        plain = image if image.mode in {"RGB", "L"} else image.convert("RGB")
        return resized(plain, size, gap=None if is_draft else factor)

    return way


def ways(kind: str) -> dict[str, Way]:
    """Return every way that reads pictures of a kind, such as "jpegprog" or "png", by name."""
    if kind == "heic":
        return _heic()
    found: dict[str, Way] = {"full": full, "before": before, "ours": ours}
    found |= {f"at {factor} times": rougher(factor) for factor in ((1,) if kind.startswith("jpeg") else (2, 3))}
    for add in (_opencv, _simplejpeg, _imagecodecs, _vips):
        with suppress(ImportError):
            found |= add(kind)
    return found


def _heic() -> dict[str, Way]:
    try:
        import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return {}
    return {"full": full}


def _opencv(kind: str) -> dict[str, Way]:
    cv2: Any = import_module("cv2")
    cv2.setNumThreads(1)

    def decoded(body: bytes, size: int) -> NDArray[np.uint8]:
        return resized(Image.fromarray(cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR_RGB)), size)

    def reduced(body: bytes, size: int) -> NDArray[np.uint8]:
        with Image.open(io.BytesIO(body)) as header:
            fits = [scale for scale in (8, 4, 2) if min(header.size) // scale >= size * DRAFT_FACTOR]
        flag = getattr(cv2, f"IMREAD_REDUCED_COLOR_{fits[0]}") if fits else cv2.IMREAD_COLOR
        pixels = cv2.imdecode(np.frombuffer(body, np.uint8), flag)
        return np.asarray(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)[..., ::-1])

    return {"OpenCV, Pillow resizes": decoded} | ({"OpenCV, reduced": reduced} if kind.startswith("jpeg") else {})


def _simplejpeg(kind: str) -> dict[str, Way]:
    simplejpeg: Any = import_module("simplejpeg")

    def way(body: bytes, size: int) -> NDArray[np.uint8]:
        least = {"min_height": size * DRAFT_FACTOR, "min_width": size * DRAFT_FACTOR}
        pixels = simplejpeg.decode_jpeg(body, "GRAY" if "grey" in kind else "RGB", **least)
        return resized(Image.fromarray(pixels.squeeze()), size)

    return (
        {"simplejpeg, Pillow resizes": way}
        if kind.startswith("jpeg") and kind not in {"jpegcmyk", "jpegturned"}
        else {}
    )


def _imagecodecs(kind: str) -> dict[str, Way]:
    loader = next((name for beginning, name in LOADERS.items() if kind.startswith(beginning)), None)
    if loader is None:
        return {}
    load: Any = getattr(import_module("imagecodecs"), loader)
    return {"imagecodecs, Pillow resizes": lambda body, size: resized(Image.fromarray(load(body)), size)}


def _vips(kind: str) -> dict[str, Way]:
    vips: Any = import_module("pyvips")

    def thumbnail(body: bytes, size: int) -> NDArray[np.uint8]:
        small = vips.Image.thumbnail_buffer(body, size, height=size, size="force")
        return np.asarray(small.colourspace("srgb").numpy()[..., :3])

    def decoded(body: bytes, size: int) -> NDArray[np.uint8]:
        return resized(Image.fromarray(vips.Image.new_from_buffer(body, "", access="sequential").numpy()), size)

    return {"libvips": thumbnail} | ({} if kind.startswith("jpeg") else {"libvips, Pillow resizes": decoded})

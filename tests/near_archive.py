"""Photographs and variants of them, as archives have them: smaller, compressed again, brighter, slightly cropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageEnhance

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _cropped(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    across, down = int(width * share / 2), int(height * share / 2)
    return image.crop((across, down, width - across, height - down))


def _half(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


VARIANTS: dict[str, tuple[Callable[[Image.Image], Image.Image], str, int]] = {
    "half": (_half, "jpg", 85),
    "again": (lambda image: image, "jpg", 60),
    "webp": (lambda image: image, "webp", 80),
    "bright": (lambda image: ImageEnhance.Brightness(image).enhance(1.15), "jpg", 88),
    "cropped": (lambda image: _cropped(image, 0.02), "jpg", 88),
}
"""What was done with a picture, and how it was saved: the end of the name, and the quality."""


def write_variants(source: Path, folder: Path, name: str) -> list[str]:
    """Write a photograph as it is, as ``NAME.png``, and its variants. Return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as opened:
        image = opened.convert("RGB")
    image.thumbnail((900, 900))
    image.save(folder / f"{name}.png")
    names = [f"{name}.png"]
    for variant, (change, ending, quality) in VARIANTS.items():
        names.append(f"{name}-{variant}.{ending}")
        change(image).save(folder / names[-1], quality=quality)
    return names

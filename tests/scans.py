"""Files with pages: what a scanner and an office program write."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def page(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A page of coarse noise: another one for each seed."""
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.NEAREST)


def tiff(seeds: Sequence[int], path: Path | None = None, **options: str) -> bytes:
    """A TIFF file with a page for each seed."""
    return _written([page(seed) for seed in seeds], "TIFF", path, options)


def pdf(seeds: Sequence[int], path: Path | None = None) -> bytes:
    """A PDF file with a page for each seed."""
    return _written([page(seed) for seed in seeds], "PDF", path, {})


def _written(pages: Sequence[Image.Image], kind: str, path: Path | None, options: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    pages[0].save(buffer, kind, save_all=True, append_images=list(pages[1:]), **options)
    body = buffer.getvalue()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return body

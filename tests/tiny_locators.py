"""Tiny random detectors and segmenters for tests, and pictures for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ram_core.localization.tiny import write_tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TAGS = ["dog", "golden retriever", "remote control", "cat"]


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth blobs of colour: noise alone looks the same everywhere."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    rows, columns = np.arange(height) * 6 // height, np.arange(width) * 6 // width
    return np.ascontiguousarray(coarse[np.ix_(rows, columns)])


def write_models(folder: Path, *names: str) -> Path:
    for name in names:
        write_tiny_model(name, folder)
    return folder

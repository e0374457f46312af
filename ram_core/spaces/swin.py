"""How a picture looks, with the image encoder of RAM, RAM++ or Tag2Text: the mean of its tokens before the projection.

Recognition projects this mean to CLIP's space, where it answers to texts (arXiv:2306.03514, section 3.1). Here it is
taken as the Swin Transformer gives it, 1,536 numbers for Swin-L.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ram_core.registry import load_model
from ram_core.spaces.encoder import EncoderSpec, unit_rows
from ram_core.transforms import normalise, require_pixels

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ram_core.precision import Precision
    from ram_core.recognizer import NetworkRecognizer
    from ram_core.transforms import SquashTransform

METHOD = "mean-of-swin-tokens"


class SwinLook:
    """The encoder.

    Args:
        model: a loaded RAM, RAM++ or Tag2Text. Only its image encoder is run.
        numbers: its number format.
    """

    def __init__(self, model: NetworkRecognizer[Any], numbers: Precision) -> None:
        self._numbers = numbers
        self._runner = model.runner
        self._preprocessing = model.preprocessing
        size = int(model.runner.network.visual_encoder.num_features)
        method = METHOD + numbers.suffix
        self._spec = EncoderSpec(model.name, model.weights_sha256, self._preprocessing.name, method, size)

    @property
    def spec(self) -> EncoderSpec:
        """What makes its vectors."""
        return self._spec

    @property
    def preprocessing(self) -> SquashTransform:
        """The transform from a decoded image to pixels: that of recognition."""
        return self._preprocessing

    @torch.inference_mode()
    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, D) float32 of unit length for (B, S, S, 3) uint8 pixels. See ``ImageEncoder``."""
        require_pixels(pixels, self._preprocessing.size)
        if not len(pixels):
            return np.empty((0, self._spec.vector_size), dtype=np.float32)
        images = normalise(
            torch.tensor(pixels).to(self._runner.device), self._preprocessing.mean, self._preprocessing.std
        )
        with self._runner.autocast():
            tokens = self._runner.network.visual_encoder(images)  # (B, 1 + N, C), the mean first
        return unit_rows(tokens[:, 0], self._numbers)


def load(name: str, *, numbers: Precision, models_dir: Path | str | None) -> SwinLook:
    """Load the encoder; see ``load_image_encoder``."""
    model: Any = load_model(name, device=numbers.device, dtype=numbers.dtype, models_dir=models_dir)
    return SwinLook(model, numbers)

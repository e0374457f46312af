"""How a picture looks, with the network of ``lite``: no further weights, and nothing was fitted to pictures.

The vector is the mean over the picture of the channels that leave the last two groups of blocks (208 and 352), each
group at unit length. The 1,280 features from which the classes are computed are worse at it: they keep what tells
classes apart and drop the rest (benchmarks/bench_lite_vectors.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from ram_core.lite.cores import Cores
from ram_core.lite.model import PREPROCESSING
from ram_core.lite.network import SIZES, installed_network, through_blocks
from ram_core.spaces.encoder import EncoderSpec, unit_rows
from ram_core.transforms import normalise, require_pixels

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ram_core.lite.layers import EfficientNetLite2
    from ram_core.precision import Precision
    from ram_core.transforms import SquashTransform

METHOD = "means-of-last-two-groups"


class LiteLook:
    """The encoder.

    Args:
        network: EfficientNet-Lite2, on its device and in its number format.
        weights_sha256: hash of its weights.
        numbers: the number format.
    """

    def __init__(self, network: EfficientNetLite2, weights_sha256: str, numbers: Precision) -> None:
        self._numbers = numbers
        self._network = network
        self._cores = Cores() if numbers.device.type == "cpu" else None
        self._spec = EncoderSpec("lite", weights_sha256, PREPROCESSING.name, METHOD + numbers.suffix, sum(SIZES[1:]))

    @property
    def spec(self) -> EncoderSpec:
        """What makes its vectors."""
        return self._spec

    @property
    def preprocessing(self) -> SquashTransform:
        """The transform from a decoded image to pixels: that of recognition."""
        return PREPROCESSING

    @torch.inference_mode()
    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, 560) float32 of unit length for (B, 260, 260, 3) uint8 pixels. See ``ImageEncoder``."""
        require_pixels(pixels, PREPROCESSING.size)
        batch = torch.tensor(pixels)
        if not len(batch):
            return unit_rows(torch.empty(0, self._spec.vector_size), self._numbers)
        looks = [self._looks(batch)] if self._cores is None else self._cores.run(self._looks, batch)
        return unit_rows(torch.cat(looks), self._numbers)

    def _looks(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return (b, D) of any length, on the CPU, for (b, S, S, 3) uint8."""
        on_device = pixels.to(self._numbers.device)
        images = normalise(on_device, PREPROCESSING.mean, PREPROCESSING.std, channels_last=True)
        images = images.to(self._numbers.dtype, memory_format=torch.channels_last)
        _, means = through_blocks(self._network, images)  # (b, C) each
        return torch.cat([functional.normalize(mean, dim=1) for mean in means], dim=1).cpu()


def load(_name: str, *, numbers: Precision, models_dir: Path | str | None) -> LiteLook:
    """Load the encoder; see ``load_image_encoder``."""
    del models_dir
    network, digest = installed_network(numbers.device, numbers.dtype)
    return LiteLook(network, digest.hexdigest(), numbers)

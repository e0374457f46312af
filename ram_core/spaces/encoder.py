"""What an encoder of pictures is. Shapes: B batch, D length of a vector."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ram_core.precision import Precision
    from ram_core.recognition import Preprocessing


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What made a vector. Two specs with the same ``fingerprint`` give the same vectors.

    Attributes:
        model: name of the encoder, for example ``lite``.
        weights_sha256: hash of the weights.
        preprocessing: a short description of resizing and normalisation.
        method: how the vector is made of what the network computes.
        vector_size: D.
    """

    model: str
    weights_sha256: str
    preprocessing: str
    method: str
    vector_size: int

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over all fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def unit_rows(found: torch.Tensor, numbers: Precision) -> NDArray[np.float32]:
    """Return (B, D) numbers of a network as float32 rows of unit length.

    Args:
        found: what the network computes.
        numbers: its number format.

    Raises:
        CheckpointError: they are not finite.
    """
    rows = found.float()
    rows = (rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)).cpu()
    if not rows.isfinite().all():
        raise numbers.not_finite("encoder", "RAMQ_LOOK_PRECISION")
    unit: NDArray[np.float32] = rows.numpy()
    return unit


class ImageEncoder(Protocol):
    """A loaded encoder. One thread at a time; only ``preprocessing`` may be used from any thread."""

    @property
    def spec(self) -> EncoderSpec:
        """What makes its vectors."""

    @property
    def preprocessing(self) -> Preprocessing:
        """The transform from a decoded image to pixels."""

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, D) float32 of unit length for (B, S, S, 3) uint8 pixels.

        Raises:
            ImageError: the array has another shape or type.
            CheckpointError: the numbers are not finite, for example since they overflowed the network's 16-bit format.
            torch.OutOfMemoryError: the batch does not fit into the memory of the device.
        """

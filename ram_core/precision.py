"""Number formats. In 16 bits only products of large layers use them: norms, boxes and scores stay float32.

Measured on random weights of the published size (``docs/localization.md``, "16 bits").
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ram_core.errors import CheckpointError, DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterable

AUTO = "auto"
FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Precision:
    """The number format of a loaded network.

    Attributes:
        device: where the network is.
        name: a key of ``FORMATS``.
    """

    device: torch.device
    name: str = "float32"

    @property
    def dtype(self) -> torch.dtype:
        """The format, as torch names it."""
        return FORMATS[self.name]

    @property
    def suffix(self) -> str:
        """What a fingerprint says of it. Nothing for float32, the format of the published weights."""
        return "" if self.name == "float32" else f"-{self.name}"

    def products(self) -> AbstractContextManager[Any]:
        """Return the context to run a network in that ``reduce`` was called for."""
        if self.name == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def reduce(self, network: nn.Module, *, whole: Iterable[nn.Module] = ()) -> None:
        """Convert the large weights of a network. It must run in ``products`` from now on.

        Args:
            network: in evaluation mode, on its device.
            whole: parts that stay float32, beside all norms. They get float32 and return it. Not lists of parts, whose
                own ``forward`` is never called.
        """
        if self.name == "float32":
            return
        kept = {*whole, *(module for module in network.modules() if isinstance(module, nn.LayerNorm | nn.GroupNorm))}
        inside = {part for module in kept for part in module.modules()}
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and module not in inside:
                module.to(self.dtype)
        for module in kept:
            _keep_whole(module, self.device.type)

    def not_finite(self, role: str, setting: str) -> CheckpointError:
        """Return the error for values that are not finite. ``setting``: names what chose the format."""
        if self.name == "float16":
            return CheckpointError(
                f"the {role} gives values that are not finite in float16; use bfloat16 or float32 ({setting})"
            )
        return CheckpointError(f"the {role} gives values that are not finite; its checkpoint is damaged: verify it")


def choose(name: str, device: torch.device) -> Precision:
    """Return a number format by name.

    Args:
        name: a key of ``FORMATS``, or ``auto``: bfloat16 on GPUs that compute in it, float32 elsewhere.
        device: where the network will be.

    Raises:
        DeviceError: there is no such format, or not on the device.
    """
    if name == AUTO:
        has_it = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8  # Ampere
        return Precision(device, "bfloat16" if has_it else "float32")
    if name not in FORMATS:
        raise DeviceError(f"{name!r} is not a number format; use {AUTO}, {', '.join(FORMATS)}")
    if name == "float16" and device.type == "cpu":
        raise DeviceError("float16 is not available on the CPU; use bfloat16 or float32 there, or a GPU")
    return Precision(device, name)


def _keep_whole(module: nn.Module, device_type: str) -> None:
    forward = module.forward

    def in_float32(*given: Any, **named: Any) -> Any:
        with torch.autocast(device_type, enabled=False):
            return forward(*map(_widened, given), **{name: _widened(value) for name, value in named.items()})

    module.forward = in_float32


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

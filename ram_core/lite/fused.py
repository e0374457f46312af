"""Layers of ``lite`` on a CPU as oneDNN runs them best: weights in its layout, ReLU6 in the same pass.

These are the calls that torch's compiler makes of such layers. They are no part of torch's public interface, so
``fused`` tries them on a small input and otherwise leaves the network as it is.
"""

from __future__ import annotations

import logging
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import nn

from ram_core.lite.layers import Layer, padded

if TYPE_CHECKING:
    from ram_core.lite.layers import EfficientNetLite2

log = logging.getLogger(__name__)

_SIX = [0.0, 6.0]
"""The range of ReLU6."""
_PROBE_SIDE = 64
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1.0}
"""Largest difference of logits, which reach 10 or so. A mistake would make other logits, not similar ones."""


class FusedLayer(nn.Module):
    """A layer whose norm is folded. Only for inference on a CPU.

    Its weights are packed for this CPU, and torch cannot copy them: no ``deepcopy`` of a network with such layers.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        conv = layer.conv
        self._stride = (layer.kernel, layer.stride)
        padding = 0 if isinstance(conv.padding, str) else conv.padding[0]
        self._how = ([padding] * 2, list(conv.stride), list(conv.dilation), conv.groups)
        self._activation = ("hardtanh", _SIX, "") if layer.is_bounded else ("none", [], "")
        self.bias = conv.bias
        weight = conv.weight.detach().contiguous().to_mkldnn()
        self.register_buffer("packed", torch._C._nn.mkldnn_reorder_conv2d_weight(weight, *self._how))  # noqa: SLF001

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C', H', W'), both channels-last."""
        run = torch.ops.mkldnn._convolution_pointwise  # noqa: SLF001
        found: torch.Tensor = run(padded(hidden, *self._stride), self.packed, self.bias, *self._how, *self._activation)
        return found


@torch.inference_mode()
def fused(network: EfficientNetLite2) -> EfficientNetLite2:
    """Return the network with its layers fused, or itself if this torch or this CPU cannot do that.

    Args:
        network: in evaluation mode, channels-last, on a CPU, with its norms folded.
    """
    dtype = network.classifier.weight.dtype
    probe = torch.linspace(-1, 1, 3 * _PROBE_SIDE**2).sin().view(1, 3, _PROBE_SIDE, _PROBE_SIDE)
    probe = probe.to(dtype, memory_format=torch.channels_last)
    expected = network(probe).float()
    other = deepcopy(network)
    try:
        _fuse(other)
        difference = float((other(probe).float() - expected).abs().max())
    except (AttributeError, TypeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        log.info("lite runs without fused layers: %s", reason)
        return network
    if difference < _TOLERANCE[dtype]:
        return other
    log.warning("lite runs without fused layers: they change logits by %g", difference)
    return network


def _fuse(module: nn.Module) -> None:
    for name, part in list(module.named_children()):
        if isinstance(part, Layer):
            setattr(module, name, FusedLayer(part))
        else:
            _fuse(part)

"""Convolutions of ``lite`` on a CPU as oneDNN runs them best: weights in its layout, the activation in the same pass.

These are the calls that torch's compiler makes of such layers. They are no part of torch's public interface, so
``fused`` tries them on a small input and otherwise leaves the network as it is.
"""

from __future__ import annotations

import logging
from copy import deepcopy
from itertools import pairwise

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import nn

log = logging.getLogger(__name__)

_SIX = [0.0, 6.0]
"""The range of ReLU6."""
_PROBE_SIDE = 64
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1.0}
"""Largest difference of logits, which reach 10 or so. A mistake would make other logits, not similar ones."""


class FusedConv(nn.Module):
    """A convolution and the ReLU6 behind it, if there is one. Only for inference on a CPU.

    Args:
        conv: the convolution; its padding may be "same".
        is_bounded: whether ReLU6 follows.
    """

    def __init__(self, conv: nn.Conv2d, *, is_bounded: bool) -> None:
        super().__init__()
        self._same = (list(conv.kernel_size), list(conv.stride)) if isinstance(conv, Conv2dSame) else None
        padding = [0, 0] if isinstance(conv.padding, str) else list(conv.padding)
        self._how = (padding, list(conv.stride), list(conv.dilation), conv.groups)
        self._activation = ("hardtanh", _SIX, "") if is_bounded else ("none", [], "")
        self.bias = conv.bias
        weight = conv.weight.detach().contiguous().to_mkldnn()
        self.register_buffer("packed", torch._C._nn.mkldnn_reorder_conv2d_weight(weight, *self._how))  # noqa: SLF001

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C', H', W'), both channels-last."""
        if self._same is not None:
            hidden = pad_same(hidden, *self._same)
        run = torch.ops.mkldnn._convolution_pointwise  # noqa: SLF001
        found: torch.Tensor = run(hidden, self.packed, self.bias, *self._how, *self._activation)
        return found


@torch.inference_mode()
def fused(network: nn.Module) -> nn.Module:
    """Return the network with its convolutions fused, or itself if this torch or this CPU cannot do that.

    Args:
        network: in evaluation mode, channels-last, on a CPU. Its norms are folded into its convolutions.
    """
    first = next(network.parameters())
    probe = torch.linspace(-1, 1, 3 * _PROBE_SIDE**2).sin().view(1, 3, _PROBE_SIDE, _PROBE_SIDE)
    probe = probe.to(first.dtype, memory_format=torch.channels_last)
    expected = network(probe).float()
    other = deepcopy(network)
    try:
        _fuse(other)
        difference = float((other(probe).float() - expected).abs().max())
    except (AttributeError, TypeError, RuntimeError) as error:
        log.info("lite runs without fused convolutions: %s", str(error).splitlines()[0])
        return network
    if difference < _TOLERANCE[first.dtype]:
        return other
    log.warning("lite runs without fused convolutions: they change logits by %g", difference)
    return network


def _fuse(module: nn.Module) -> None:
    children = [*module.named_children(), ("", nn.Identity())]
    for (conv_name, conv), (next_name, following) in pairwise(children):
        if isinstance(conv, nn.Conv2d):
            is_bounded = isinstance(following, nn.ReLU6)
            setattr(module, conv_name, FusedConv(conv, is_bounded=is_bounded))
            if is_bounded:
                setattr(module, next_name, nn.Identity())
        else:
            _fuse(conv)

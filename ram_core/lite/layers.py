"""EfficientNet-Lite2 (arXiv:1905.11946): EfficientNet without squeeze-and-excitation, with ReLU6.

Width 1.1 and depth 1.2 of EfficientNet-B0, at 260 pixels, as in its authors' code ("lite" models of
``tpu/models/official/efficientnet``). Its parts are in the order of the weights in a checkpoint. It is written out here
because importing a library of networks takes long.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Of each group: blocks, channels out, side of the kernel, stride of the first block, how much wider a block is inside.
_GROUPS = ((1, 16, 3, 1, 1), (3, 24, 3, 2, 6), (3, 48, 5, 2, 6), (4, 88, 3, 2, 6), (4, 120, 5, 1, 6), (5, 208, 5, 2, 6))
_LAST = (1, 352, 3, 1, 6)
_STEM, _HEAD, _CLASSES = 32, 1280, 1000
_EPSILON = 1e-3
"""Of the norms, as TensorFlow has it."""


class Layer(nn.Module):
    """A convolution, its norm, and ReLU6 where the layer is bounded.

    Strides are padded as TensorFlow does it: half of what is missing before the picture, and the larger half behind.
    """

    def __init__(
        self, into: int, out: int, kernel: int = 1, stride: int = 1, *, groups: int = 1, is_bounded: bool = True
    ) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(into, out, kernel, stride, padding, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(out, eps=_EPSILON)
        self.is_bounded = is_bounded
        self.kernel, self.stride = kernel, stride

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        hidden = self.norm(self.conv(padded(hidden, self.kernel, self.stride)))
        return functional.relu6(hidden) if self.is_bounded else hidden

    def fold(self) -> None:
        """Fold the norm into the convolution: the same function in two thirds of the time on a CPU."""
        assert isinstance(self.norm, nn.BatchNorm2d)
        self.conv, self.norm = fuse_conv_bn_eval(self.conv, self.norm), nn.Identity()


def padded(hidden: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """Pad (B, C, H, W) for a convolution with a stride; see ``Layer``."""
    if stride == 1:
        return hidden
    missing = [max((math.ceil(side / stride) - 1) * stride + kernel - side, 0) for side in hidden.shape[-2:]]
    high, wide = missing
    return functional.pad(hidden, (wide // 2, wide - wide // 2, high // 2, high - high // 2))


class Block(nn.Sequential):
    """An inverted residual block: wider, over the picture, and narrower again (arXiv:1801.04381, section 3.3)."""

    def __init__(self, into: int, out: int, kernel: int, stride: int, factor: int) -> None:
        inside = into * factor
        wider = [Layer(into, inside)] if factor > 1 else []
        over = Layer(inside, inside, kernel, stride, groups=inside)
        super().__init__(*wider, over, Layer(inside, out, is_bounded=False))
        self.is_residual = stride == 1 and into == out

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        found: torch.Tensor = super().forward(hidden)  # type: ignore[no-untyped-call]
        return found + hidden if self.is_residual else found


class EfficientNetLite2(nn.Module):
    """The network, of random weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Layer(3, _STEM, 3, 2)
        groups, into = [], _STEM
        for count, out, kernel, stride, factor in (*_GROUPS, _LAST):
            first = Block(into, out, kernel, stride, factor)
            groups.append(nn.Sequential(first, *(Block(out, out, kernel, 1, factor) for _ in range(count - 1))))
            into = out
        self.groups = nn.Sequential(*groups)
        self.head = Layer(into, _HEAD)
        self.classifier = nn.Linear(_HEAD, _CLASSES)

    def fold(self) -> None:
        """Fold all norms, in evaluation mode and before weights are converted to 16 bits."""
        for part in list(self.modules()):
            if isinstance(part, Layer):
                part.fold()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return (B, 1280, h, w) from which the classes are computed, of (B, 3, H, W) normalised pixels."""
        found: torch.Tensor = self.head(self.groups(self.stem(images)))
        return found

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised pixels -> (B, 1000) logits."""
        logits: torch.Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits

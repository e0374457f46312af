"""The image encoder: a Swin Transformer (arXiv:2103.14030) with fused window attention.

timm's modules hold the parameters. They are run in another way here, with equal results up to rounding:

* Tokens stay in window order between blocks. A block moves them once (one gather), while the usual code shifts, cuts,
  joins and shifts back.
* The relative position bias and the shift mask, which do not depend on the image, are added once, after loading.
* Attention is one fused call that never writes the scores to memory.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from timm.models.swin_transformer import SwinTransformer, get_relative_position_index
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ram_core.modeling.architecture import SwinSizes

PATCH = 4  # pixels per side of a patch; arXiv:2103.14030, section 3.1
BLOCKED = -100.0  # added to the score of tokens that are neighbours only by the cyclic shift; the official code's value


class ImageEncoder(SwinTransformer):  # type: ignore[misc]  # timm is untyped
    """Swin Transformer for one image size.

    Call ``prepare`` after the weights are loaded and on their device.
    """

    def __init__(self, sizes: SwinSizes) -> None:
        super().__init__(
            img_size=sizes.image_size,
            patch_size=PATCH,
            window_size=sizes.window,
            embed_dim=sizes.width,
            depths=sizes.depths,
            num_heads=sizes.heads,
            num_classes=0,
            global_pool="",
            drop_path_rate=0.0,
        )
        self.sizes = sizes
        for stage in self.layers:
            for block in stage.blocks:  # timm's own tables; `prepare` replaces them
                block.attn_mask = None
                block.attn.relative_position_index = None

    @torch.no_grad()
    def prepare(self, dtype: torch.dtype) -> None:
        """Compute what does not depend on the image: the order of tokens, and bias plus mask of every block.

        Args:
            dtype: number format of the attention.
        """
        window = self.sizes.window
        device = self.norm.weight.device
        index = get_relative_position_index(window, window).flatten().to(device)
        for stage, grid in self._stages():
            orders = [torch.arange(grid * grid)]
            for block in stage.blocks:
                shift = block.shift_size[0]
                orders.append(_window_order(grid, window, shift))
                bias = block.attn.relative_position_bias_table[index]  # (N * N, heads)
                bias = bias.view(window**2, window**2, -1).permute(2, 0, 1)  # (heads, N, N)
                if shift:
                    mask = _shift_mask(grid, window, shift).to(device)  # (windows, N, N)
                    bias = (mask[:, None] + bias).flatten(0, 1)  # (windows * heads, N, N)
                block.register_buffer("bias", bias[None].to(dtype).contiguous(), persistent=False)
            orders.append(orders[0])
            stage.moves = [_move(before, after, device) for before, after in pairwise(orders)]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode images.

        Args:
            pixels: (B, 3, S, S) float, normalised.

        Returns:
            (B, 1 + N, C): the mean of the tokens, then the N = (S / 32)^2 tokens after the last normalisation.
        """
        tokens = list(self.stages(pixels))[-1]
        tokens = self.norm(tokens)  # (B, N, C)
        return torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)

    def stages(self, pixels: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield (B, grid * grid, channels), in raster order, after each stage."""
        hidden = self.patch_embed(pixels)  # (B, S / 4, S / 4, C)
        for stage, grid in self._stages():
            hidden = stage.downsample(hidden).flatten(1, 2)  # (B, grid * grid, C)
            for block, move in zip(stage.blocks, stage.moves, strict=False):
                hidden = _block(block, _moved(hidden, move))
            hidden = _moved(hidden, stage.moves[-1])
            yield hidden
            hidden = hidden.view(len(hidden), grid, grid, -1)

    def _stages(self) -> Iterator[tuple[Any, int]]:
        grid = self.sizes.image_size // PATCH
        for position, stage in enumerate(self.layers):
            yield stage, grid >> position


def _block(block: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Run one Swin block on (B, tokens, C) in the order of its windows."""
    hidden = hidden + _window_attention(block, block.norm1(hidden))
    mixed: torch.Tensor = hidden + block.mlp(block.norm2(hidden))
    return mixed


def _window_attention(block: Any, hidden: torch.Tensor) -> torch.Tensor:
    batch, tokens, channels = hidden.shape
    heads, area = block.attn.num_heads, block.window_area
    windows, width = tokens // area, channels // heads
    qkv = block.attn.qkv(hidden)  # (B, tokens, 3 C)
    if block.shift_size[0]:  # windows have different masks: treat windows as heads, so that images share the masks
        qkv = qkv.view(batch, windows, area, 3, heads, width).permute(3, 0, 1, 4, 2, 5).flatten(2, 3)
        query, key, value = qkv.unbind(0)  # (B, windows * heads, N, width)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=block.bias)
        mixed = mixed.view(batch, windows, heads, area, width).transpose(2, 3)
    else:  # one bias for all windows: treat windows as images
        query, key, value = qkv.view(batch * windows, area, 3, heads, width).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=block.bias)
        mixed = mixed.transpose(1, 2)
    projected: torch.Tensor = block.attn.proj(mixed.reshape(batch, tokens, channels))
    return projected


def _window_order(grid: int, window: int, shift: int) -> torch.Tensor:
    """Return (grid * grid,) positions, in raster order, of the tokens in the order of a block's windows."""
    places = torch.arange(grid * grid).view(grid, grid).roll((-shift, -shift), (0, 1))
    side = grid // window
    return places.view(side, window, side, window).permute(0, 2, 1, 3).flatten()


def _shift_mask(grid: int, window: int, shift: int) -> torch.Tensor:
    """Return (windows, N, N): 0 between tokens that were neighbours before the shift, ``BLOCKED`` elsewhere."""
    wrapped = torch.arange(grid) >= grid - shift  # rows, and columns, that came from the other edge
    region = 2 * wrapped[:, None].int() + wrapped[None, :].int()
    region = region.flatten()[_window_order(grid, window, 0)].view(-1, window**2)  # (windows, N)
    apart = region[:, :, None] != region[:, None, :]
    return torch.zeros(apart.shape).masked_fill(apart, BLOCKED)


def _move(before: torch.Tensor, after: torch.Tensor, device: torch.device) -> torch.Tensor | None:
    """Return indices that change the order of tokens from one to the other; None if the orders are the same."""
    if torch.equal(before, after):
        return None
    return torch.argsort(before)[after].to(device)


def _moved(hidden: torch.Tensor, move: torch.Tensor | None) -> torch.Tensor:
    return hidden if move is None else hidden.index_select(1, move)

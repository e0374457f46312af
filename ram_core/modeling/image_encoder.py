"""The image encoder: a Swin Transformer (arXiv:2103.14030) with fused window attention.

timm's modules hold the parameters. They are run in another way here, with equal results up to rounding:

* Tokens stay in window order between blocks. A block moves them once (one gather), while the usual code shifts, cuts,
  joins and shifts back.
* For inference, the relative position bias and the shift mask, which do not depend on the image, are added once, after
  loading. In training they are added for every batch, so that the biases learn.
* Attention is one fused call that never writes the scores to memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from timm.models.swin_transformer import SwinTransformer
from torch.nn import functional

from ram_core.errors import ImageError
from ram_core.modeling.architecture import PATCH
from ram_core.modeling.bert import recomputed
from ram_core.modeling.window_layout import Layout, layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ram_core.modeling.architecture import SwinSizes


class ImageEncoder(SwinTransformer):  # type: ignore[misc]  # timm is untyped
    """Swin Transformer, with parameters under their official names.

    For inference, call ``prepare`` after the weights are loaded and on their device. It then takes images of one size.
    Without, it takes images of any size that is a multiple of 32 pixels, and all its parameters get gradients.

    Attributes:
        recompute: in training, keep no activations inside a block, and compute them again for its gradients.
    """

    recompute: bool = False

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
            drop_path_rate=sizes.drop_path,
            strict_img_size=False,
        )
        self.sizes = sizes
        self._layouts: dict[tuple[int, torch.device], Layout] = {}
        self._prepared: Layout | None = None
        # In official files a stage ends with the merging of patches; in timm the next one starts with it.
        merging = [stage.downsample for stage in self.layers]
        for stage, downsample in zip(self.layers, [*merging[1:], merging[0]], strict=True):
            del stage.downsample
            stage.downsample = downsample
            for block in stage.blocks:  # timm's own tables; a layout replaces them
                block.attn_mask = None
                block.attn.relative_position_index = None
                block.register_buffer("bias", None, persistent=False)

    @torch.no_grad()
    def prepare(self, dtype: torch.dtype) -> None:
        """Compute what does not depend on the image: the order of tokens, and bias plus mask of every block.

        Args:
            dtype: number format of the attention.
        """
        self._prepared = self._layout(self.sizes.image_size, self.norm.weight.device)
        for stage, place in zip(self.layers, self._prepared.stages, strict=True):
            for block, mask in zip(stage.blocks, place.masks, strict=True):
                table = block.attn.relative_position_bias_table
                block.bias = self._prepared.biases(table, mask).to(dtype).contiguous()
            place.masks.clear()
        self._layouts.clear()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode images.

        Args:
            pixels: (B, 3, S, S) float, normalised.

        Returns:
            (B, 1 + N, C): the mean of the tokens, then the N = (S / 32)^2 tokens after the last normalisation.

        Raises:
            ImageError: the images do not have the size that the encoder was prepared for.
        """
        tokens = list(self.stages(pixels))[-1]
        tokens = self.norm(tokens)  # (B, N, C)
        return torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)

    def stages(self, pixels: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield (B, grid * grid, channels), in raster order, after each stage and its merging of patches."""
        laid = self._prepared or self._layout(pixels.shape[-1], pixels.device)
        if pixels.shape[2:] != (laid.size, laid.size):
            height, width = pixels.shape[2:]
            raise ImageError(
                f"images of {width} x {height} pixels for a model of {laid.size} x {laid.size}; resize them"
            )
        hidden = self.patch_embed(pixels)  # (B, S / 4, S / 4, C)
        for stage, place in zip(self.layers, laid.stages, strict=True):
            hidden = hidden.flatten(1, 2)  # (B, grid * grid, C)
            for number, block in enumerate(stage.blocks):
                hidden = _moved(hidden, place.moves[number])
                if block.bias is not None:
                    hidden = _block(block, hidden, block.bias)
                elif self.recompute:
                    hidden = recomputed(_learning_block, block, hidden, laid, place.masks[number])
                else:
                    hidden = _learning_block(block, hidden, laid, place.masks[number])
            hidden = _moved(hidden, place.moves[-1])
            hidden = stage.downsample(hidden.view(len(hidden), place.grid, place.grid, -1))
            yield hidden.flatten(1, 2)

    def _layout(self, size: int, device: torch.device) -> Layout:
        if (size, device) not in self._layouts:
            shifted = [[bool(block.shift_size[0]) for block in stage.blocks] for stage in self.layers]
            self._layouts[size, device] = layout(size, self.sizes.window, shifted, device)
        return self._layouts[size, device]


def _learning_block(block: Any, hidden: torch.Tensor, laid: Layout, mask: torch.Tensor | None) -> torch.Tensor:
    return _block(block, hidden, laid.biases(block.attn.relative_position_bias_table, mask))


def _block(block: Any, hidden: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Run one Swin block on (B, tokens, C) in the order of its windows."""
    hidden = hidden + block.drop_path1(_window_attention(block, block.norm1(hidden), bias))
    mixed: torch.Tensor = hidden + block.drop_path2(block.mlp(block.norm2(hidden)))
    return mixed


def _window_attention(block: Any, hidden: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    batch, tokens, channels = hidden.shape
    heads, area = block.attn.num_heads, bias.shape[-1]
    windows, width = tokens // area, channels // heads
    qkv = block.attn.qkv(hidden)  # (B, tokens, 3 C)
    if bias.shape[1] != heads:  # windows have different masks: treat windows as heads, so that images share the masks
        qkv = qkv.view(batch, windows, area, 3, heads, width).permute(3, 0, 1, 4, 2, 5).flatten(2, 3)
        query, key, value = qkv.unbind(0)  # (B, windows * heads, N, width)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed = mixed.view(batch, windows, heads, area, width).transpose(2, 3)
    else:  # one bias for all windows: treat windows as images
        query, key, value = qkv.view(batch * windows, area, 3, heads, width).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed = mixed.transpose(1, 2)
    projected: torch.Tensor = block.attn.proj(mixed.reshape(batch, tokens, channels))
    return projected


def _moved(hidden: torch.Tensor, move: torch.Tensor | None) -> torch.Tensor:
    return hidden if move is None else hidden.index_select(1, move)

"""Where tokens are in the windows of a Swin Transformer (arXiv:2103.14030, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from timm.models.swin_transformer import get_relative_position_index

from ram_core.errors import ModelError
from ram_core.modeling.architecture import PATCH, PIXELS_PER_WINDOW_CELL
from ram_core.modeling.bias_tables import resizing

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCKED = -100.0  # added to the score of tokens that are neighbours only by the cyclic shift; the official code's value


@dataclass(frozen=True, slots=True)
class StageLayout:
    """The tokens of one stage.

    Attributes:
        grid: side of the square of tokens.
        moves: for every block, and after the last one, the order in which to take tokens; None: no change.
        masks: for every block, (windows, N, N) of 0 and ``BLOCKED``; None for a block whose windows are not shifted.
    """

    grid: int
    moves: list[torch.Tensor | None]
    masks: list[torch.Tensor | None]


@dataclass(frozen=True, slots=True)
class Layout:
    """The tokens of images of one size.

    Attributes:
        size: side of the images, in pixels.
        index: (N * N,) row of the bias table for every pair of tokens of a window.
        resize: matrix that makes bias tables for these windows from tables for others; None: they fit.
        stages: one for each stage.
    """

    size: int
    index: torch.Tensor
    resize: torch.Tensor | None
    stages: list[StageLayout]

    def biases(self, table: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return what a block adds to its scores.

        Args:
            table: ((2 window - 1)^2, heads) the block's relative position biases.
            mask: the block's mask.

        Returns:
            (1, heads, N, N), or with a mask (1, windows * heads, N, N).
        """
        if self.resize is not None:
            with torch.autocast(table.device.type, enabled=False):  # few products, which 16 bits would spoil
                table = self.resize @ table
        side = round(len(self.index) ** 0.5)
        bias = table[self.index].view(side, side, -1).permute(2, 0, 1)  # (heads, N, N)
        return (bias if mask is None else (mask[:, None] + bias).flatten(0, 1))[None]


def layout(size: int, window: int, shifted: Sequence[Sequence[bool]], device: torch.device) -> Layout:
    """Lay out images of ``size`` pixels for weights that were made for windows of ``window`` tokens.

    As in the official code, the last stage is one window, so the window grows with the image.

    Args:
        size: side of the images, in pixels.
        window: side of the windows that the bias tables are for.
        shifted: for every block of every stage, whether its windows are shifted.
        device: where to put the tensors.

    Raises:
        ModelError: the size is not a multiple of 32 pixels.
    """
    wanted, rest = divmod(size, PIXELS_PER_WINDOW_CELL)
    if rest or not wanted:
        raise ModelError(f"images of {size} pixels do not fit the windows; use a multiple of {PIXELS_PER_WINDOW_CELL}")
    stages = []
    for number, blocks in enumerate(shifted):
        grid = size // PATCH >> number
        shifts = [wanted // 2 if each else 0 for each in blocks]
        raster = torch.arange(grid * grid)
        orders = [raster, *(_window_order(grid, wanted, shift) for shift in shifts), raster]
        moves = [_move(before, after, device) for before, after in pairwise(orders)]
        masks = [_shift_mask(grid, wanted, shift).to(device) if shift else None for shift in shifts]
        stages.append(StageLayout(grid, moves, masks))
    index = get_relative_position_index(wanted, wanted).flatten().to(device)
    resize = None if wanted == window else resizing(2 * window - 1, 2 * wanted - 1).float().to(device)
    return Layout(size, index, resize, stages)


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

"""Compact image tokens for storage: what a model computed from an image, for computing other tags from it later.

``tokens`` stores all of them: the global token in float16, since RAM++ weights descriptions by it (arXiv:2310.15200,
section 3.3), every other one in int8 with its own scale. ``global`` stores only the global token. The image vector is
made from it, but the tagging decoder needs all tokens (arXiv:2306.03514, 3.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["global", "tokens"]

_INT8 = 127  # symmetric: -128 is not used


def pack(tokens: torch.Tensor, kind: Kind) -> NDArray[np.uint8]:
    """Pack image tokens.

    Args:
        tokens: (B, 1 + N, E), the global one first.
        kind: which ones to store.

    Returns:
        (B, R) uint8; R is 2 E for ``global``, 2 E + N (4 + E) for ``tokens``: 75,328 bytes for RAM's 144 of 512.
    """
    whole = tokens[:, 0].half().cpu().numpy().view(np.uint8)  # (B, 2 E)
    if kind == "global":
        return whole
    local = tokens[:, 1:].float()
    scales = (local.abs().amax(dim=-1) / _INT8).clamp(min=torch.finfo(torch.float32).tiny)  # (B, N)
    numbers = (local / scales[..., None]).round().to(torch.int8)  # (B, N, E)
    batch = len(whole)
    parts = (scales.cpu().numpy().reshape(batch, -1), numbers.cpu().numpy().reshape(batch, -1))
    return np.concatenate([whole, *(part.view(np.uint8) for part in parts)], axis=1)


def unpack_tokens(rows: NDArray[np.uint8], width: int) -> torch.Tensor:
    """Return the (B, 1 + N, E) float32 tokens that ``pack(…, "tokens")`` packed to (B, R) rows.

    Args:
        rows: the packed rows.
        width: E.

    Raises:
        ValueError: rows of this length cannot be tokens of this width.
    """
    batch, length = rows.shape
    count, rest = divmod(length - 2 * width, 4 + width)
    if rest or count < 1:
        raise ValueError(f"{length} bytes are not image tokens of {width} numbers; they may be of another model")
    rows = np.ascontiguousarray(rows)
    ends = 2 * width, 2 * width + 4 * count
    whole = torch.from_numpy(np.ascontiguousarray(rows[:, : ends[0]]).view(np.float16).astype(np.float32))
    scales = torch.from_numpy(np.ascontiguousarray(rows[:, ends[0] : ends[1]]).view(np.float32).copy())
    numbers = torch.from_numpy(np.ascontiguousarray(rows[:, ends[1] :]).view(np.int8).astype(np.float32))
    local = numbers.view(batch, count, width) * scales[..., None]
    return torch.cat([whole[:, None], local], dim=1)

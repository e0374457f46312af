"""Compact image tokens for storage: what a model computed from an image, for computing other tags from it later.

``tokens`` stores all of them: the global token in float16, since RAM++ weights descriptions by it (arXiv:2310.15200,
section 3.3), every other one in int8 with its own scale. ``global`` stores only the global token. The image vector is
made from it, but the tagging decoder needs all tokens (arXiv:2306.03514, 3.1).

``pooled`` stores means over the picture of what leaves some layers of ``lite``: each layer's in int8, with its own
scale. Heads for new tags are fitted on them (``ram_core.teaching``), or on the tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TokenKind = Literal["global", "tokens"]

_INT8 = 127  # symmetric: -128 is not used


def pack(tokens: torch.Tensor, kind: TokenKind) -> NDArray[np.uint8]:
    """Pack image tokens.

    Args:
        tokens: (B, 1 + N, E), the global one first.
        kind: which ones to store.

    Returns:
        (B, R) uint8; R is 2 E for ``global``, 2 E + N (4 + E) for ``tokens``: 75,328 bytes for RAM's 144 of 512.
    """
    return joined([part.cpu() for part in parts_of(tokens, kind)])


def parts_of(tokens: torch.Tensor, kind: TokenKind) -> list[torch.Tensor]:
    """Return what ``pack`` packs, on the device of the tokens: ``joined`` makes rows of it."""
    whole = tokens[:, 0].half()  # (B, E)
    return [whole] if kind == "global" else [whole, *_to_int8(tokens[:, 1:].float())]  # (B, N), (B, N, E)


def joined(parts: Sequence[torch.Tensor]) -> NDArray[np.uint8]:
    """Return the (B, R) uint8 rows of parts on the host, each (B, …)."""
    rows = [part.numpy().reshape(len(part), -1).view(np.uint8) for part in parts]
    return rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1)


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


def pack_pooled(parts: Sequence[torch.Tensor]) -> NDArray[np.uint8]:
    """Pack means over pictures, each (B, C), to (B, R) uint8; R is the sum of 4 + C: 1,852 bytes for ``lite``."""
    packed = []
    for part in parts:
        scales, numbers = _to_int8(part.float())  # (B,), (B, C)
        packed += [scales.cpu().numpy()[:, None].view(np.uint8), numbers.cpu().numpy().view(np.uint8)]
    return np.concatenate(packed, axis=1)


def unpack_pooled(rows: NDArray[np.uint8], sizes: Sequence[int]) -> list[NDArray[np.float32]]:
    """Return the (B, C) float32 parts that ``pack_pooled`` packed to (B, R) rows.

    Args:
        rows: the packed rows.
        sizes: the C of each part.

    Raises:
        ValueError: rows of this length cannot have these parts.
    """
    if rows.ndim != 2 or rows.shape[1] != sum(4 + size for size in sizes):
        raise ValueError(f"{rows.shape[-1]} bytes are not pooled features of this model; they may be of another one")
    parts, start = [], 0
    for size in sizes:
        scales = np.ascontiguousarray(rows[:, start : start + 4]).view(np.float32)  # (B, 1)
        numbers = np.ascontiguousarray(rows[:, start + 4 : start + 4 + size]).view(np.int8)  # (B, C)
        parts.append(numbers * scales)
        start += 4 + size
    return parts


def _to_int8(numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (…) float32 scales and (…, C) int8 of (…, C) float32."""
    scales = (numbers.abs().amax(dim=-1) / _INT8).clamp(min=torch.finfo(torch.float32).tiny)
    return scales, (numbers / scales[..., None]).round().to(torch.int8)

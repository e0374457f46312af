"""Label embeddings of CLIP, and the queries of the tagging decoder that are computed from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import nn

# Bytes of descriptions that a CPU processes at once: scores and sum, two passes, then both find them in its cache.
CHUNK_BYTES = 8 << 20


def tag_queries(embeddings: torch.Tensor, projection: nn.Linear) -> torch.Tensor:
    """Project label embeddings (…, T, E) to queries (…, T, H): ``relu(W e + b)`` (arXiv:2306.03514, official code)."""
    return functional.relu(projection(embeddings))


def reweight(
    descriptions: torch.Tensor, images: torch.Tensor, scale: torch.Tensor, absent: torch.Tensor | None = None
) -> torch.Tensor:
    """Average the descriptions of each tag, weighted by how well they fit each image (arXiv:2310.15200, section 3.3).

    The weights are ``softmax_d(scale <image, description_d>)``. The average is not normalised again.

    Args:
        descriptions: (T, D, E) embeddings.
        images: (B, E) global image embeddings, of unit length.
        scale: () sharpness of the softmax.
        absent: (T, D) True if a tag has fewer than D descriptions; such rows get no weight.

    Returns:
        (B, T, E), in the number format of ``descriptions``.
    """
    tags, count, width = descriptions.shape
    step = tags
    if descriptions.device.type == "cpu":
        step = max(1, CHUNK_BYTES // (count * width * descriptions.element_size()))
    scaled = (images * scale).to(descriptions.dtype).T  # (E, B)
    averaged = []
    for start in range(0, tags, step):
        part = slice(start, start + step)
        chunk = descriptions[part]  # (t, D, E)
        fit = (chunk.flatten(0, 1) @ scaled).view(len(chunk), count, -1).float()  # (t, D, B)
        if absent is not None:
            fit = fit.masked_fill(absent[part, :, None], -float("inf"))
        weights = fit.softmax(dim=1).to(chunk.dtype)
        averaged.append(weights.transpose(1, 2) @ chunk)  # (t, B, D) (t, D, E)
    return (averaged[0] if len(averaged) == 1 else torch.cat(averaged)).transpose(0, 1)

"""RAM++ (arXiv:2310.15200): RAM with several descriptions per tag, weighted by each image (figure 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import nn
from torch.nn import functional
from typing_extensions import override

from ram_core.modeling.label_embeddings import reweight, tag_queries
from ram_core.modeling.ram import RAM

if TYPE_CHECKING:
    from ram_core.modeling.architecture import BertSizes, SwinSizes
    from ram_core.modeling.ram import Part


class RAMPlus(RAM):
    """RAM++.

    Args:
        swin: sizes of the image encoder.
        head: sizes of the tagging decoder.
        labels: (T * D, E) of the label embedding, tag by tag.
        descriptions: D sentences per tag.
    """

    def __init__(self, swin: SwinSizes, head: BertSizes, labels: tuple[int, int], descriptions: int) -> None:
        super().__init__(swin, head, labels)
        self.descriptions = descriptions
        self.reweight_scale = nn.Parameter(torch.empty(()))  # the logarithm of the scale
        self.absent: torch.Tensor | None = None  # (T, D) True where a tag has fewer descriptions

    @property
    @override
    def tags(self) -> int:
        """Number of tags."""
        return self.label_embed.shape[0] // self.descriptions

    @override
    def queries(self, part: Part, tokens: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the queries of each image: it weights the descriptions of a tag."""
        images = functional.normalize(tokens[:, 0].float(), dim=-1)  # (B, E)
        absent = None if self.absent is None else self.absent[part]
        descriptions = self.label_embed.view(-1, self.descriptions, self.label_embed.shape[1])[part]  # (t, D, E)
        embeddings = reweight(descriptions, images, self.reweight_scale.exp(), absent)  # (B, t, E)
        return tag_queries(embeddings.contiguous(), self.wordvec_proj), None

    @override
    def label_vectors(self) -> torch.Tensor:
        """Return (T, E) float32 means of each tag's descriptions, of unit length."""
        descriptions = self.label_embed.float().view(-1, self.descriptions, self.label_embed.shape[1])
        if self.absent is not None:
            descriptions = descriptions.masked_fill(self.absent[..., None], 0.0)
        return functional.normalize(descriptions.sum(dim=1), dim=-1)

    @override
    def prepare_labels(self, dtype: torch.dtype) -> None:
        """Cast the descriptions to the number format of the products: reading them is the main cost."""
        self.label_embed = nn.Parameter(self.label_embed.to(dtype), requires_grad=False)

    def with_descriptions(
        self, label_embed: torch.Tensor, dtype: torch.dtype, absent: torch.Tensor | None = None
    ) -> Self:
        """Return the same network for other tags.

        Args:
            label_embed: (T, D, E).
            dtype: number format of matrix products.
            absent: (T, D) True if a tag has fewer than D descriptions.
        """
        other = self.shallow_copy()
        other.descriptions = label_embed.shape[1]
        other.absent = None if absent is None else absent.to(self.label_embed.device)
        flat = label_embed.flatten(0, 1).to(self.label_embed.device, torch.float32)
        other.label_embed = nn.Parameter(flat, requires_grad=False)
        other.prepare_labels(dtype)
        return other

    @override
    def with_labels_of(self, other: Self, dtype: torch.dtype) -> Self:
        """Return the same network for the tags of another one."""
        labels = other.label_embed.view(-1, other.descriptions, other.label_embed.shape[1])
        return self.with_descriptions(labels, dtype, other.absent)

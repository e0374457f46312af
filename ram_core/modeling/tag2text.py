"""Tag2Text (arXiv:2303.05657): figure 3. Tags from the image, then a caption from image and tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from typing_extensions import override

from ram_core.modeling.image_encoder import ImageEncoder
from ram_core.modeling.ram import Tagger
from ram_core.modeling.tag_encoder import TagEncoder
from ram_core.modeling.tagging_decoder import TaggingDecoder
from ram_core.modeling.text_decoder import TextDecoder

if TYPE_CHECKING:
    from ram_core.modeling.architecture import BertSizes, SwinSizes
    from ram_core.modeling.ram import Part


class TagClassifiers(nn.Module):
    """One classifier per tag (Query2Label, arXiv:2107.10834)."""

    def __init__(self, tags: int, hidden: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(1, tags, hidden))
        self.b = nn.Parameter(torch.empty(1, tags))

    def forward(self, hidden: torch.Tensor, part: Part) -> torch.Tensor:
        """Return (B, t) logits for (B, t, H) decoded queries of some tags."""
        return (self.W[:, part] * hidden).sum(dim=-1) + self.b[:, part]


class Tag2Text(Tagger):
    """Tag2Text.

    Args:
        swin: sizes of the image encoder.
        head: sizes of the tagging decoder.
        tags: number of tags.
        encoder: sizes of the tag encoder.
        decoder: sizes of the text decoder.

    Attributes:
        projected_queries: (1, T, H) the tags' queries, projected for the first layer of the decoder.
    """

    projected_queries: torch.Tensor

    def __init__(self, swin: SwinSizes, head: BertSizes, tags: int, encoder: BertSizes, decoder: BertSizes) -> None:
        super().__init__()
        self.visual_encoder = ImageEncoder(swin)
        self.label_embed = nn.Embedding(tags, head.hidden)
        self.tagging_head = TaggingDecoder(head)
        self.fc = TagClassifiers(tags, head.hidden)
        self.tag_encoder = TagEncoder(encoder)
        self.text_decoder = TextDecoder(decoder)

    @property
    @override
    def tags(self) -> int:
        """Number of tags."""
        return self.label_embed.num_embeddings

    @override
    def queries(self, part: Part, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the queries. Each tag has its own, which is learned."""
        return self.label_embed.weight[None, part], self.projected_queries[:, part]

    @override
    def classify(self, hidden: torch.Tensor, part: Part) -> torch.Tensor:
        """Return the logits. Each tag has its own classifier."""
        logits: torch.Tensor = self.fc(hidden, part)
        return logits

    @override
    @torch.no_grad()
    def prepare_labels(self, dtype: torch.dtype) -> None:
        """Project all tags once."""
        projected = self.tagging_head.project(self.label_embed.weight[None])
        self.register_buffer("projected_queries", projected.to(dtype), persistent=False)

"""The tag encoder of Tag2Text (arXiv:2303.05657, section 3.2): combines the words of the tags with image tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ram_core.modeling.bert import Embeddings, Layers, TextLayer, bert_config

if TYPE_CHECKING:
    import torch

    from ram_core.modeling.architecture import BertSizes


class TagEncoder(nn.Module):
    """A BERT encoder whose words attend to each other and to the image tokens."""

    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        config = bert_config(sizes)
        self.embeddings = Embeddings(config)
        self.encoder = Layers([TextLayer(config, sizes.memory) for _ in range(sizes.layers)])

    def forward(self, ids: torch.Tensor, real: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Encode tags.

        Args:
            ids: (B, L) token ids of the tags.
            real: (B, L) False if an id is padding.
            tokens: (B, 1 + N, E) image tokens.

        Returns:
            (B, L, H).
        """
        hidden: torch.Tensor = self.embeddings(ids)
        for layer in self.encoder:
            hidden = layer.attention(hidden, layer.attention.self.look_at(hidden), real[:, None, None, :])
            hidden = layer(hidden, layer.crossattention.self.look_at(tokens))
        return hidden

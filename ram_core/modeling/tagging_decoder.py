"""The tagging decoder (Query2Label, arXiv:2107.10834; RAM, arXiv:2306.03514, section 3.1).

One query per tag attends to the image tokens, twice. Queries do not attend to each other. So any subset of tags, and
any division into chunks, gives the same logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ram_core.modeling.bert import CrossLayer, KeysValues, Layers, bert_config, recomputed

if TYPE_CHECKING:
    import torch

    from ram_core.modeling.architecture import BertSizes


class TaggingDecoder(nn.Module):
    """Layers of cross attention and feed-forward, from tag queries to image tokens.

    Attributes:
        recompute: in training, keep no activations inside a layer, and compute them again for its gradients.
    """

    recompute: bool = False

    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        config = bert_config(sizes)
        self.encoder = Layers([CrossLayer(config, sizes.memory) for _ in range(sizes.layers)])

    def look_at(self, memory: torch.Tensor) -> list[KeysValues]:
        """Project image tokens (B, N, E) to the keys and values of every layer."""
        return [layer.crossattention.self.look_at(memory) for layer in self.encoder]

    def project(self, queries: torch.Tensor) -> torch.Tensor:
        """Project queries for the first layer. The result can be cached if it does not depend on the image."""
        projected: torch.Tensor = next(iter(self.encoder)).crossattention.self.query(queries)
        return projected

    def forward(
        self, queries: torch.Tensor, memory: list[KeysValues], projected: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Decode tags.

        Args:
            queries: (B, T, H), or (1, T, H) if all images have the same.
            memory: result of ``look_at``.
            projected: result of ``project(queries)``, if it is known.

        Returns:
            (B, T, H).
        """
        for layer, keys_values in zip(self.encoder, memory, strict=True):
            queries = (
                recomputed(layer, queries, keys_values, projected)
                if self.recompute
                else layer(queries, keys_values, projected)
            )
            projected = None
        return queries

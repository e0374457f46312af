"""BERT layers (arXiv:1810.04805) with cross attention, for the tagging decoder, tag encoder and text decoder.

Post-norm, no token types. Plain BERT blocks come from transformers. The attention is our own: here keys and values of
the memory have another width than the tokens, are computed once per image, and are shared by beams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers.models.bert.configuration_bert import BertConfig
from transformers.models.bert.modeling_bert import BertIntermediate, BertOutput, BertSelfOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ram_core.modeling.architecture import BertSizes

# BERT's normalisation; Swin's is 1e-5. Source: official ``med_config.json``.
LAYER_NORM_EPSILON = 1e-12


class KeysValues(NamedTuple):
    """Keys and values of attention, each (B, heads, N, H / heads)."""

    keys: torch.Tensor
    values: torch.Tensor


def bert_config(sizes: BertSizes) -> BertConfig:
    """Return the sizes as a configuration of transformers."""
    return BertConfig(
        vocab_size=max(sizes.words, 1),
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.intermediate,
        max_position_embeddings=max(sizes.positions, 1),
        layer_norm_eps=LAYER_NORM_EPSILON,
        hidden_act="gelu",
        pad_token_id=0,
        hidden_dropout_prob=sizes.dropout,
        attention_probs_dropout_prob=sizes.dropout,
    )


class Attention(nn.Module):
    """Multi-head attention (arXiv:1706.03762, section 3.2) from H-wide tokens to a memory of any width."""

    def __init__(self, hidden: int, memory: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(memory, hidden)
        self.value = nn.Linear(memory, hidden)

    def look_at(self, memory: torch.Tensor) -> KeysValues:
        """Project a memory (B, N, E), or (1, N, E) if all images share it, once for all queries."""
        return KeysValues(self._split(self.key(memory)), self._split(self.value(memory)))

    def forward(self, query: torch.Tensor, memory: KeysValues, allowed: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the attention.

        Args:
            query: (B, L, H) projected queries, or (1, L, H) if all images have the same.
            memory: keys and values of (B, N).
            allowed: bool, broadcast to (B, heads, L, N); False: the token must not attend.

        Returns:
            (B, L, H).
        """
        split = self._split(query).expand(memory.keys.shape[0], -1, -1, -1)  # (B, heads, L, H / heads)
        dropped = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(split, *memory, attn_mask=allowed, dropout_p=dropped)
        return mixed.transpose(1, 2).flatten(2)

    def _split(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.view(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


class AttentionBlock(nn.Module):
    """Attention, projection, residual and normalisation."""

    def __init__(self, config: BertConfig, memory: int) -> None:
        super().__init__()
        self.self = Attention(
            config.hidden_size, memory, config.num_attention_heads, config.attention_probs_dropout_prob
        )
        self.output = BertSelfOutput(config)

    def forward(
        self,
        hidden: torch.Tensor,
        memory: KeysValues,
        allowed: torch.Tensor | None = None,
        query: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend from (B, L, H) tokens to a memory. ``query`` are their projections, if they were computed before."""
        query = self.self.query(hidden) if query is None else query
        mixed: torch.Tensor = self.output(self.self(query, memory, allowed), hidden)
        return mixed


class CrossLayer(nn.Module):
    """Cross attention and feed-forward: a BERT layer without self attention."""

    def __init__(self, config: BertConfig, memory: int) -> None:
        super().__init__()
        self.crossattention = AttentionBlock(config, memory)
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config)

    def forward(self, hidden: torch.Tensor, memory: KeysValues, query: torch.Tensor | None = None) -> torch.Tensor:
        """Return (B, L, H) from (B, L, H) tokens, a memory and, optionally, the projected queries."""
        hidden = self.crossattention(hidden, memory, query=query)
        mixed: torch.Tensor = self.output(self.intermediate(hidden), hidden)
        return mixed


class TextLayer(CrossLayer):
    """A complete BERT layer: self attention, cross attention, feed-forward."""

    def __init__(self, config: BertConfig, memory: int) -> None:
        super().__init__(config, memory)
        self.attention = AttentionBlock(config, config.hidden_size)


class Embeddings(nn.Module):
    """Word plus position embedding, normalised. The official models have no token types."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        # Padding learns nothing: it is what it was before training.
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, ids: torch.Tensor, start: int = 0) -> torch.Tensor:
        """Return (B, L, H) embeddings of (B, L) token ids; the first is at position ``start``."""
        positions = self.position_embeddings.weight[start : start + ids.shape[1]]
        embedded: torch.Tensor = self.dropout(self.LayerNorm(self.word_embeddings(ids) + positions))
        return embedded


L = TypeVar("L", bound=CrossLayer)


class Layers(nn.Module, Generic[L]):
    """A stack of layers under the official key ``layer``."""

    def __init__(self, layers: list[L]) -> None:
        super().__init__()
        self.layer = nn.ModuleList(layers)

    def __iter__(self) -> Iterator[L]:
        return cast("Iterator[L]", iter(self.layer))


def recomputed(part: Callable[..., torch.Tensor], *inputs: Any) -> torch.Tensor:
    """Return ``part(*inputs)`` without keeping its activations: they are computed again for the gradients."""
    output: torch.Tensor = checkpoint(part, *inputs, use_reentrant=False)
    return output

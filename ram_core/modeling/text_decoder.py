"""The caption decoder of Tag2Text (arXiv:2303.05657, section 3.2): predicts the next word from words and tags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional
from transformers.models.bert.modeling_bert import BertPredictionHeadTransform

from ram_core.modeling.bert import Embeddings, KeysValues, Layers, TextLayer, bert_config

if TYPE_CHECKING:
    from transformers.models.bert.configuration_bert import BertConfig

    from ram_core.modeling.architecture import BertSizes


@dataclass
class DecoderState:
    """State of the decoder while captions grow.

    Attributes:
        tags: per layer, keys and values of the encoded tags of B images; the beams of an image share them.
        words: per layer, keys and values (B * beams, heads, longest, H / heads) of the words so far.
        length: number of words so far.
    """

    tags: list[KeysValues]
    words: list[KeysValues]
    length: int = 0

    def reorder(self, rows: torch.Tensor) -> None:
        """Make beam i continue from the words of beam ``rows[i]``."""
        for each in self.words:
            for cache in each:
                cache[:, :, : self.length] = cache[rows, :, : self.length]


class Predictions(nn.Module):
    """From hidden states to words: a transformation, then the transposed word embedding."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.transform = BertPredictionHeadTransform(config)
        self.bias = nn.Parameter(torch.empty(config.vocab_size))

    def forward(self, hidden: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Return (rows, V) float32 logits for (rows, H) hidden states and the word embedding (V, H)."""
        return functional.linear(self.transform(hidden), words, self.bias).float()


class _Bert(nn.Module):
    """Holds embeddings and layers under the official keys ``bert.*``."""

    def __init__(self, config: BertConfig, memory: int) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Layers([TextLayer(config, memory) for _ in range(config.num_hidden_layers)])


class _Cls(nn.Module):
    """Holds the predictions under the official key ``cls.predictions``."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.predictions = Predictions(config)


class TextDecoder(nn.Module):
    """A BERT decoder over words. Like the official model, it attends to all encoded tags, padding included."""

    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        config = bert_config(sizes)
        self.positions = sizes.positions
        self.bert = _Bert(config, sizes.memory)
        self.cls = _Cls(config)

    def start(self, encoded: torch.Tensor, beams: int, longest: int) -> DecoderState:
        """Begin captions of at most ``longest`` words from (B, L, H) encoded tags, with ``beams`` per image."""
        layers = list(self.bert.encoder)
        tags = [layer.crossattention.self.look_at(encoded) for layer in layers]
        batch, heads, _, width = tags[0].keys.shape
        shape = (batch * beams, heads, longest, width)
        words = [KeysValues(tags[0].keys.new_empty(shape), tags[0].keys.new_empty(shape)) for _ in layers]
        return DecoderState(tags, words)

    def forward(self, ids: torch.Tensor, state: DecoderState) -> torch.Tensor:
        """Read words and predict the one after the last.

        Args:
            ids: (B * beams, l) token ids that follow those already in ``state``.
            state: extended by ``ids``.

        Returns:
            (B * beams, V) float32 logits.
        """
        start, stop = state.length, state.length + ids.shape[1]
        allowed = torch.ones(stop - start, stop, dtype=torch.bool, device=ids.device).tril(start)
        hidden = self.bert.embeddings(ids, start)  # (B * beams, l, H)
        images = state.tags[0].keys.shape[0]
        for layer, tags, words in zip(self.bert.encoder, state.tags, state.words, strict=True):
            fresh = layer.attention.self.look_at(hidden)
            for cache, new in zip(words, fresh, strict=True):
                cache[:, :, start:stop] = new
            so_far = KeysValues(words.keys[:, :, :stop], words.values[:, :, :stop])
            hidden = layer.attention(hidden, so_far, allowed)
            # The beams of one image attend to the same tags: treat them as one long row of queries.
            together = hidden.reshape(images, -1, hidden.shape[-1])  # (B, beams * l, H)
            hidden = layer(together, tags).view(hidden.shape)
        state.length = stop
        return self.predict(hidden[:, -1])

    def read(self, ids: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
        """Read whole captions, for training.

        Args:
            ids: (B, L) token ids; padding is at the end.
            encoded: (B, L', H) encoded tags.

        Returns:
            (B, L, H), from whose position i ``predict`` predicts the word at i + 1. Padding has no meaning.
        """
        length = ids.shape[1]
        allowed = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
        hidden: torch.Tensor = self.bert.embeddings(ids)
        for layer in self.bert.encoder:
            hidden = layer.attention(hidden, layer.attention.self.look_at(hidden), allowed)
            hidden = layer(hidden, layer.crossattention.self.look_at(encoded))
        return hidden

    def predict(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return (rows, V) float32 logits of the next word for (rows, H) hidden states."""
        logits: torch.Tensor = self.cls.predictions(hidden, self.bert.embeddings.word_embeddings.weight)
        return logits

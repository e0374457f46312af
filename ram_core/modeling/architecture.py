"""Infer the size of a network from the shapes of its weights, so that a checkpoint needs no configuration file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ram_core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    Shapes = Mapping[str, torch.Tensor]

# Heads of the tagging decoder (arXiv:2306.03514, official ``q2l_config.json``): four for weights of any size.
TAGGING_HEADS = 4
# BERT-base cuts its 768 channels into 12 heads of 64 (arXiv:1810.04805); small test networks use heads of 8.
BERT_HEAD_WIDTH = 64
SMALL_HEAD_WIDTH = 8
# Swin halves the grid three times after patches of 4 pixels, and its last grid is one window (arXiv:2103.14030).
PIXELS_PER_WINDOW_CELL = 32
PATCH = 4  # pixels per side of a patch; arXiv:2103.14030, section 3.1


@dataclass(frozen=True, slots=True)
class SwinSizes:
    """Sizes of a Swin Transformer whose last stage is one window, as in all released models.

    Attributes:
        width: channels of the first stage; every later stage has twice as many.
        depths: blocks per stage.
        heads: attention heads per stage.
        window: side of the attention window, in tokens.
        drop_path: in training, the share of images that skip the last block; earlier blocks are skipped less often
            (stochastic depth, arXiv:1603.09382).
    """

    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    drop_path: float = 0.0

    @property
    def image_size(self) -> int:
        """Side of the input square, in pixels."""
        return self.window * PIXELS_PER_WINDOW_CELL

    @property
    def output_width(self) -> int:
        """Channels of the last stage."""
        width: int = self.width * 2 ** (len(self.depths) - 1)
        return width


@dataclass(frozen=True, slots=True)
class BertSizes:
    """Sizes of a stack of BERT layers with cross attention to a memory.

    Attributes:
        layers: number of layers.
        hidden: width H of the tokens.
        heads: attention heads.
        intermediate: width of the feed-forward part.
        memory: width of the memory that the cross attention reads.
        words: size of the word embedding; 0 for a stack without embeddings.
        positions: size of the position embedding; 0 likewise.
        dropout: in training, the share of hidden numbers and of attention weights that are dropped.
    """

    layers: int
    hidden: int
    heads: int
    intermediate: int
    memory: int
    words: int = 0
    positions: int = 0
    dropout: float = 0.0


def swin_sizes(weights: Shapes, prefix: str = "visual_encoder.") -> SwinSizes:
    """Read the sizes of the image encoder from official weights.

    Raises:
        CheckpointError: the weights have no Swin Transformer of the released kind.
    """
    pattern = re.compile(re.escape(prefix) + r"layers\.(\d+)\.blocks\.(\d+)\.attn\.relative_position_bias_table")
    tables = {(int(m[1]), int(m[2])): weights[key] for key in weights if (m := pattern.fullmatch(key))}
    patches = weights.get(f"{prefix}patch_embed.proj.weight")
    if not tables or patches is None:
        raise CheckpointError(f"the checkpoint has no image encoder (keys `{prefix}…`); use RAM, RAM++ or Tag2Text")
    stages = range(1 + max(stage for stage, _ in tables))
    if missing := [stage for stage in stages if (stage, 0) not in tables]:
        raise CheckpointError(f"the checkpoint has no blocks of stage {missing[0]} (`{prefix}layers.{missing[0]}…`)")
    rows = tables[0, 0].shape[0]  # (2 window - 1)^2
    return SwinSizes(
        width=patches.shape[0],
        depths=tuple(1 + max(block for stage, block in tables if stage == wanted) for wanted in stages),
        heads=tuple(tables[stage, 0].shape[1] for stage in stages),
        window=(round(rows**0.5) + 1) // 2,
    )


def tagging_sizes(weights: Shapes) -> BertSizes:
    """Read the sizes of the tagging decoder, ``tagging_head.*``."""
    return _bert_sizes(weights, "tagging_head.", TAGGING_HEADS)


def text_sizes(weights: Shapes, prefix: str) -> BertSizes:
    """Read the sizes of the tag encoder (``tag_encoder.``) or the text decoder (``text_decoder.bert.``)."""
    return _bert_sizes(weights, prefix, None)


def _bert_sizes(weights: Shapes, prefix: str, heads: int | None) -> BertSizes:
    layers = {int(m[1]) for key in weights if (m := re.match(re.escape(prefix) + r"encoder\.layer\.(\d+)\.", key))}
    first = f"{prefix}encoder.layer.0."
    key = weights.get(f"{first}crossattention.self.key.weight")
    wide = weights.get(f"{first}intermediate.dense.weight")
    if not layers or key is None or wide is None:
        raise CheckpointError(f"the checkpoint has no `{prefix}encoder.layer.0…`; it may be of another model")
    hidden = key.shape[0]
    words = weights.get(f"{prefix}embeddings.word_embeddings.weight")
    positions = weights.get(f"{prefix}embeddings.position_embeddings.weight")
    head_width = SMALL_HEAD_WIDTH if hidden % BERT_HEAD_WIDTH else BERT_HEAD_WIDTH
    return BertSizes(
        layers=1 + max(layers),
        hidden=hidden,
        heads=heads or hidden // head_width,
        intermediate=wide.shape[0],
        memory=key.shape[1],
        words=0 if words is None else words.shape[0],
        positions=0 if positions is None else positions.shape[0],
    )

"""RAM, Recognize Anything (arXiv:2306.03514): figure 2 without the caption branch.

image -> Swin -> projection to CLIP's 512 channels -> memory
tag   -> CLIP text embedding -> projection -> query -> tagging decoder over the memory -> logit
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias

import torch
from torch import nn
from torch.nn import functional
from typing_extensions import override

from ram_core.modeling.image_encoder import ImageEncoder
from ram_core.modeling.label_embeddings import tag_queries
from ram_core.modeling.tag_encoder import TagEncoder
from ram_core.modeling.tagging_decoder import TaggingDecoder
from ram_core.modeling.text_decoder import TextDecoder

if TYPE_CHECKING:
    from ram_core.modeling.architecture import BertSizes, SwinSizes
    from ram_core.modeling.bert import KeysValues

# One chunk size controls decoder and encoder: the activations of this many decoded pairs of image and tag are about as
# large as those of one encoded image (80 MB in float32).
PAIRS_PER_IMAGE = 2048

Part: TypeAlias = slice | torch.Tensor
"""Some tags: a range of them, or their ids."""


class Tagged(NamedTuple):
    """Output of a network for a batch.

    Attributes:
        logits: (B, T) float32.
        tokens: (B, 1 + N, E) image tokens that captions are made from; the first is the global one.
    """

    logits: torch.Tensor
    tokens: torch.Tensor


class Tagger(nn.Module):
    """Base of the three networks: runs the encoder and the tagging decoder in chunks that fit into memory.

    Attributes:
        chunk_size: maximum pairs of image and tag decoded at once; None: all. It affects memory, never results.
    """

    visual_encoder: ImageEncoder
    tagging_head: TaggingDecoder
    tag_encoder: TagEncoder  # these two only in networks that can write captions
    text_decoder: TextDecoder
    chunk_size: int | None = None

    def forward(self, pixels: torch.Tensor) -> Tagged:
        """Return logits and image tokens for (B, 3, S, S) normalised pixels."""
        tokens = self.embed(pixels)
        return Tagged(self.decode(tokens, self.tags), tokens)

    @property
    def tags(self) -> int:
        """Number of tags."""
        raise NotImplementedError

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return (B, 1 + N, E) image tokens, the input of the tagging decoder, for (B, 3, S, S) pixels."""
        return self.encode(pixels)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return (B, 1 + N, C) tokens of the image encoder for (B, 3, S, S) normalised pixels."""
        at_once = max(1, self.chunk_size // PAIRS_PER_IMAGE) if self.chunk_size else pixels.shape[0]
        parts = [self.visual_encoder(pixels[i : i + at_once]) for i in range(0, len(pixels), at_once)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def decode(self, tokens: torch.Tensor, tags: int) -> torch.Tensor:
        """Return (B, tags) float32 logits for (B, 1 + N, E) image tokens."""
        memory = self.tagging_head.look_at(tokens)
        step = max(1, self.chunk_size // tokens.shape[0]) if self.chunk_size else tags
        logits = []
        for start in range(0, tags, step):
            part = slice(start, min(start + step, tags))
            queries, projected = self.queries(part, tokens)
            logits.append(self.score(queries, memory, projected, part))
        return logits[0] if len(logits) == 1 else torch.cat(logits, dim=1)

    def decode_some(self, tokens: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """Return (B, t) float32 logits of some tags, by their (t,) ids, for (B, 1 + N, E) image tokens."""
        queries, projected = self.queries(which, tokens)
        return self.score(queries, self.tagging_head.look_at(tokens), projected, which)

    def score(
        self, queries: torch.Tensor, memory: list[KeysValues], projected: torch.Tensor | None, part: Part
    ) -> torch.Tensor:
        """Return (B, t) float32 logits of the (B or 1, t, H) queries of some tags."""
        hidden = self.tagging_head(queries, memory, projected)  # (B, t, H)
        with torch.autocast(hidden.device.type, enabled=False):  # a sum over H: always in float32
            return self.classify(hidden.float(), part)

    def queries(self, part: Part, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return (B or 1, t, H) queries of some tags, and their projection for the first layer, if it is known."""
        raise NotImplementedError

    def classify(self, hidden: torch.Tensor, part: Part) -> torch.Tensor:
        """Return (B, t) logits for (B, t, H) decoded queries of some tags."""
        raise NotImplementedError

    def prepare(self, dtype: torch.dtype) -> None:
        """Compute what does not depend on the image, and cast the large weights. Call it once, on loaded weights.

        Args:
            dtype: number format of matrix products. Norms, softmax and logits stay float32.
        """
        self.requires_grad_(requires_grad=False).eval()
        self.visual_encoder.prepare(dtype)
        self.prepare_labels(dtype)
        sensitive = {id(module) for name, module in self.named_modules() if name == "fc"}
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and id(module) not in sensitive:
                module.to(dtype)

    def prepare_labels(self, dtype: torch.dtype) -> None:
        """Compute what depends only on the tags."""
        raise NotImplementedError

    def shallow_copy(self) -> Self:
        """Return a module that shares all weights. Its own parameters and buffers can be replaced."""
        other = type(self).__new__(type(self))
        other.__dict__ = dict(self.__dict__)
        for table in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            other.__dict__[table] = self.__dict__[table].copy()
        return other


class RAM(Tagger):
    """Recognize Anything.

    Attributes:
        tag_queries: (1, T, H) float32 queries of all tags.
        projected_queries: (1, T, H) their projection for the first layer of the decoder.

    Args:
        swin: sizes of the image encoder.
        head: sizes of the tagging decoder.
        labels: (rows, E) of the label embedding.
        captioner: sizes of the tag encoder and the text decoder. The released checkpoint has both, but the released
            code never uses them: experimental.
    """

    tag_queries: torch.Tensor
    projected_queries: torch.Tensor

    def __init__(
        self,
        swin: SwinSizes,
        head: BertSizes,
        labels: tuple[int, int],
        captioner: tuple[BertSizes, BertSizes] | None = None,
    ) -> None:
        super().__init__()
        self.visual_encoder = ImageEncoder(swin)
        self.image_proj = nn.Linear(swin.output_width, labels[1])
        self.label_embed = nn.Parameter(torch.empty(labels))
        self.wordvec_proj = nn.Linear(labels[1], head.hidden)
        self.tagging_head = TaggingDecoder(head)
        self.fc = nn.Linear(head.hidden, 1)
        if captioner is not None:
            self.tag_encoder = TagEncoder(captioner[0])
            self.text_decoder = TextDecoder(captioner[1])

    @override
    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return (B, 1 + N, E) tokens. The first one was trained towards CLIP's embedding of the image."""
        tokens: torch.Tensor = self.image_proj(self.encode(pixels))
        return tokens

    @property
    @override
    def tags(self) -> int:
        """Number of tags."""
        return self.label_embed.shape[0]

    @override
    def queries(self, part: Part, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return RAM's queries, which do not depend on the image."""
        return self.tag_queries[:, part], self.projected_queries[:, part]

    @override
    def classify(self, hidden: torch.Tensor, part: Part) -> torch.Tensor:
        """Return the logits. One classifier serves all tags."""
        logits: torch.Tensor = self.fc(hidden)
        return logits.squeeze(-1)

    def label_vectors(self) -> torch.Tensor:
        """Return (T, E) float32 label embeddings of unit length."""
        return functional.normalize(self.label_embed.float(), dim=-1)

    @override
    @torch.no_grad()
    def prepare_labels(self, dtype: torch.dtype) -> None:
        """Project all tags once."""
        weight = self.wordvec_proj.weight.dtype
        queries = tag_queries(self.label_embed.to(weight)[None], self.wordvec_proj)  # (1, T, H)
        self.register_buffer("tag_queries", queries.float(), persistent=False)
        projected = self.tagging_head.project(queries)
        self.register_buffer("projected_queries", projected.to(dtype), persistent=False)

    def with_labels(self, label_embed: torch.Tensor, dtype: torch.dtype) -> Self:
        """Return the same network for other tags. It shares all weights except the (rows, E) label embedding."""
        other = self.shallow_copy()
        label_embed = label_embed.to(self.label_embed.device, torch.float32)
        other.label_embed = nn.Parameter(label_embed, requires_grad=False)
        other.prepare_labels(dtype)
        return other

    def with_labels_of(self, other: Self, dtype: torch.dtype) -> Self:
        """Return the same network for the tags of another one."""
        return self.with_labels(other.label_embed, dtype)

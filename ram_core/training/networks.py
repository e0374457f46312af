"""What each model learns from a batch. The networks are those of inference; here they also have losses.

RAM: arXiv:2306.03514, section 3.2. RAM++: arXiv:2310.15200, section 3. Tag2Text: arXiv:2303.05657, section 3.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from typing_extensions import override

from ram_core.errors import TrainingError
from ram_core.modeling.label_embeddings import tag_queries
from ram_core.modeling.ram import RAM, Tagger
from ram_core.modeling.ram_plus import RAMPlus
from ram_core.modeling.tag2text import Tag2Text
from ram_core.training.losses import ALIGN_GAMMA_NEG, asymmetric_loss, balanced, caption_loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ram_core.modeling.captioner import CaptionWords
    from ram_core.modeling.ram import Part
    from ram_core.training.batch import TrainingBatch

Losses = dict[str, torch.Tensor]

# The order of the official networks: of its names, a tied parameter has the first.
_ORDER = (
    "visual_encoder",
    "tag_encoder",
    "text_decoder",
    "tagging_head",
    "label_embed",
    "wordvec_proj",
    "fc",
    "image_proj",
)


class Trainable(Tagger):
    """Base of the networks that learn.

    Attributes:
        tag_names: names of the T tags.
        words: the words of captions; None for a network without captions.
        punish_same_captions: as the official code does, count the same caption of another image of the batch as wrong
            for this one.
    """

    tag_names: Sequence[str]
    words: CaptionWords | None
    punish_same_captions: bool = False

    def start(self, tag_names: Sequence[str], words: CaptionWords | None) -> None:
        """Begin training: tie what the official networks tie, and let everything learn but the embeddings of CLIP."""
        self.tag_names = tag_names
        self.words = words
        self._modules = {name: self._modules[name] for name in _ORDER if name in self._modules}
        if words is not None:
            self._tie()
        self.requires_grad_(requires_grad=True).train()
        if isinstance(self, RAM):
            self.label_embed.requires_grad = False

    def recompute(self, *, activations: bool = True) -> None:
        """Compute activations again for the gradients: this takes less memory and more time."""
        self.visual_encoder.recompute = activations
        self.tagging_head.recompute = activations

    def losses(self, batch: TrainingBatch) -> Losses:
        """Return the losses of a batch and their ``total``, which training minimises: () each, with gradients.

        Raises:
            TrainingError: the batch lacks something that this model learns from, or has another vocabulary.
            ModelError: the images have a size that does not fit.
        """
        if batch.tags.shape[1] != self.tags:
            raise TrainingError(f"the batch has {batch.tags.shape[1]} tags, the model {self.tags}; use one vocabulary")
        return self._losses(batch)

    def _losses(self, batch: TrainingBatch) -> Losses:
        raise NotImplementedError

    def _caption_loss(self, batch: TrainingBatch, tokens: torch.Tensor) -> torch.Tensor:
        """Return the loss of predicting captions from (B, 1 + N, E) image tokens and the tags that captions name."""
        assert self.words is not None
        tags: list[list[str]] = [[] for _ in batch.captions]
        for image, tag in batch.parse_tags.nonzero().tolist():
            tags[image].append(self.tag_names[tag])
        ids, real = (each.to(tokens.device) for each in self.words.encode(tags))
        encoded = self.tag_encoder(ids, real, tokens)  # (B, 40, H)
        caption, learned = self.words.encode_captions(batch.captions)
        rows, places = learned.nonzero(as_tuple=True)
        targets = caption[rows, places].to(tokens.device)
        hidden = self.text_decoder.read(caption.to(tokens.device), encoded)  # (B, L, H)
        before = hidden[rows.to(tokens.device), places.to(tokens.device) - 1]  # (words, H)
        return caption_loss(self.text_decoder.predict(before), targets)

    def _tie(self) -> None:
        """Share the tagging decoder's weights with the lowest layers of the tag encoder, and words with predictions."""
        for lower, layer in zip(self.tagging_head.encoder, self.tag_encoder.encoder, strict=False):
            for name, part in lower.named_modules():
                twin = layer.get_submodule(name)
                for key, weight in part.named_parameters(recurse=False):
                    setattr(twin, key, weight)
        words, predictions = self.text_decoder.bert.embeddings.word_embeddings, self.text_decoder.cls.predictions
        with torch.device("meta"):
            predictions.decoder = nn.Linear(words.embedding_dim, words.num_embeddings)
        predictions.decoder.weight = words.weight
        predictions.decoder.bias = predictions.bias


class TrainableRAM(Trainable, RAM):
    """RAM: tags, captions from tags, and the image vector of CLIP."""

    @override
    def queries(self, part: Part, tokens: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the queries, whose projection learns."""
        return tag_queries(self.label_embed[None, part], self.wordvec_proj), None

    @override
    def _losses(self, batch: TrainingBatch) -> Losses:
        tokens = self.embed(batch.pixels)
        caption = self._caption_loss(batch, tokens)
        tag = asymmetric_loss(self.decode(tokens, self.tags), batch.tags)
        distill = _distillation(tokens, batch)
        return {"tag": tag, "distill": distill, "t2t": caption, "total": caption + balanced(tag, caption) + distill}


class TrainableRAMPlus(Trainable, RAMPlus):
    """RAM++: tags from descriptions, which caption belongs to which image, and the image vector of CLIP."""

    @override
    def _losses(self, batch: TrainingBatch) -> Losses:
        tokens = self.embed(batch.pixels)
        tag = asymmetric_loss(self.decode(tokens, self.tags), batch.tags)
        distill = _distillation(tokens, batch)
        align = self._alignment(batch, tokens)
        return {"tag": tag, "distill": distill, "align": align, "total": tag + distill + align}

    def _alignment(self, batch: TrainingBatch, tokens: torch.Tensor) -> torch.Tensor:
        """Return the loss of recognising captions as if they were tags (arXiv:2310.15200, section 3.1)."""
        if batch.caption_text is None:
            raise TrainingError("ram_plus learns from the captions' vectors; give `caption_text`")
        queries = tag_queries(batch.caption_text.to(tokens.device)[None], self.wordvec_proj)  # (1, B, H)
        logits = self.score(
            queries, self.tagging_head.look_at(tokens), None, slice(0, len(batch))
        )  # (B images, B captions)
        known = [row for row, caption in enumerate(batch.captions) if caption]
        first: dict[str, int] = {}
        same = [first.setdefault(caption, row) for row, caption in enumerate(batch.captions)]
        ids = torch.tensor(range(len(batch)) if self.punish_same_captions else same, device=logits.device)
        targets = ids[:, None] == ids[None, :]
        return asymmetric_loss(logits[:, known], targets[:, known], gamma_neg=ALIGN_GAMMA_NEG)


class TrainableTag2Text(Trainable, Tag2Text):
    """Tag2Text: tags that captions name, and captions from tags."""

    @override
    def queries(self, part: Part, tokens: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the queries, which learn."""
        return self.label_embed.weight[None, part], None

    @override
    def _losses(self, batch: TrainingBatch) -> Losses:
        tokens = self.embed(batch.pixels)
        caption = self._caption_loss(batch, tokens)
        tag = asymmetric_loss(self.decode(tokens, self.tags), batch.parse_tags)
        return {"tag": tag, "t2t": caption, "total": caption + balanced(tag, caption)}


def _distillation(tokens: torch.Tensor, batch: TrainingBatch) -> torch.Tensor:
    """Return the mean difference of the (B, 1 + N, E) projected tokens' first from CLIP's vectors of the images."""
    if batch.clip_image is None or batch.clip_image.shape[1] != tokens.shape[2]:
        given = "nothing" if batch.clip_image is None else tuple(batch.clip_image.shape)
        raise TrainingError(f"clip_image is {given}; give CLIP's vectors of the images, (B, {tokens.shape[2]})")
    return (tokens[:, 0].float() - batch.clip_image.to(tokens.device).float()).abs().mean()

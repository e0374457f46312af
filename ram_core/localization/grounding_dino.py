"""Grounding DINO (arXiv:2303.05499) and MM-Grounding-DINO (arXiv:2401.02361), on the networks of transformers.

The network is used in its parts. The image backbone runs once per picture, whatever the number of prompts. In the text
backbone the words of a phrase see only each other (section 3.4 of the paper, sub-sentence level), so the features of a
tag do not depend on its neighbours: they are computed once per tag and put together into prompts. What follows, in
which words and picture see each other, runs once per prompt and picture.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers.modeling_outputs import BaseModelOutput
from typing_extensions import override

from ram_core.errors import CheckpointError
from ram_core.localization.memory import Batches
from ram_core.localization.parts import PRECISION, Candidates
from ram_core.localization.pixels import network_input, require_picture, resized
from ram_core.localization.prompts import Packer, Prompt, Tokens, span_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ram_core.localization.pixels import Preparation
    from ram_core.localization.results import PartSpec
    from ram_core.precision import Precision
    from ram_core.transforms import Sides

# How the network is used, for the fingerprint. Whoever changes what is found must change this.
METHOD = "spans-max-v1"
THRESHOLD = 0.25  # the box threshold of the RAM authors' demo

# Start, end and full stop. The network looks for these numbers to know where a phrase ends.
_MARKS = (101, 102, 1012)
_PICTURES_AT_ONCE = 8
_PROMPTS_AT_ONCE = 8  # of all pictures together
_PHRASES_KEPT = 20_000  # four times RAM's tags; about 10 kB each
_PHRASES_AT_ONCE = 128

Maps = list[torch.Tensor]
"""Features of one picture: (C, h, w) for each level of the image backbone."""


class _Held(nn.Module):
    """Stands in for a part of the network whose output is known."""

    def __init__(self, position_embedding: nn.Module | None = None) -> None:
        super().__init__()
        # The network asks its backbone for the positions of one more, coarser level.
        self.position_embedding = position_embedding
        self.value: Any = None

    @override
    def forward(self, *_: Any, **__: Any) -> Any:
        return self.value


class _Pair(NamedTuple):
    """One prompt for one picture."""

    picture: int
    prompt: Prompt


class GroundingDino:
    """A loaded detector. One thread at a time.

    Args:
        network: of transformers, with its weights, in evaluation mode, on its device.
        tokenizer: of transformers.
        preparation: size and levels of pictures.
        spec: what identifies it.
        precision: number format to compute in.
    """

    def __init__(
        self, network: Any, tokenizer: Any, preparation: Preparation, spec: PartSpec, precision: Precision
    ) -> None:
        self._network = network
        self._precision = precision
        self._device = network.device
        self._preparation = preparation
        self._spec = spec
        self._pad = int(tokenizer.pad_token_id or 0)
        self._ends = (int(tokenizer.cls_token_id), int(tokenizer.sep_token_id))
        self._stop = int(tokenizer.convert_tokens_to_ids("."))
        if (*self._ends, self._stop) != _MARKS:
            raise CheckpointError(
                f"the tokenizer of {spec.model} is not that of bert-base-uncased, which the model was trained with; "
                f"pull {spec.model} again"
            )
        self._packer = Packer(
            lambda words: tokenizer(words, add_special_tokens=False)["input_ids"],
            tokenizer.unk_token_id,
            int(network.config.max_text_len),
        )
        self._phrases: OrderedDict[Tokens, torch.Tensor] = OrderedDict()
        precision.reduce(network, whole=_exact_parts(network))
        self._images, self._text = network.model.backbone, network.model.text_backbone
        self._held_maps = _Held(self._images.position_embedding)
        self._held_text = _Held()
        network.model.backbone, network.model.text_backbone = self._held_maps, self._held_text
        self._picture_batches = Batches(_PICTURES_AT_ONCE)
        self._prompt_batches = Batches(_PROMPTS_AT_ONCE)

    @property
    def spec(self) -> PartSpec:
        """What identifies it."""
        return self._spec

    @property
    def sides(self) -> Sides:
        """The size of pictures that it uses."""
        return self._preparation.sides

    @property
    def threshold(self) -> float:
        """The least score of the RAM authors' demo."""
        return THRESHOLD

    def refused(self, tags: Sequence[str]) -> dict[str, str]:
        """Return the tags that no prompt can hold, each with the reason."""
        return self._packer.refused(tags)

    def prompts(self, tags: Sequence[str]) -> list[Prompt]:
        """Return the prompts that the tags need. Their number is what a picture costs beside its image features."""
        return self._packer.pack(tags)

    @torch.inference_mode()
    def detect(
        self, pictures: Sequence[NDArray[np.uint8]], tags: Sequence[Sequence[str]], threshold: float
    ) -> list[Candidates]:
        """Find the boxes of each picture's own tags; see ``Detector``.

        Pictures of different sizes are not computed together: filled up to one size, the windows of the image backbone
        would see the filling.
        """
        prompts = [self._packer.pack(own) for own in tags]
        found: list[list[Candidates]] = [[] for _ in pictures]
        for group in self._groups(pictures, prompts):
            # Only so many pictures' features are held at a time.
            for start in range(0, len(group), self._picture_batches.most):
                self._detect(
                    pictures, tags, group[start : start + self._picture_batches.most], (prompts, threshold), found
                )
        return [_joined(each) for each in found]

    def _detect(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        tags: Sequence[Sequence[str]],
        group: Sequence[int],
        rest: tuple[Sequence[Sequence[Prompt]], float],
        found: list[list[Candidates]],
    ) -> None:
        prompts, threshold = rest
        prepared = [self._prepared(pictures[i]) for i in group]
        size = prepared[0].shape[:2]
        maps = dict(zip(group, self._picture_batches.run(prepared, self._maps), strict=True))
        pairs = [_Pair(i, prompt) for i in group for prompt in prompts[i]]
        outputs = self._prompt_batches.run(pairs, lambda part: self._outputs(part, maps, size))
        for pair, (scores, boxes) in zip(pairs, outputs, strict=True):
            found[pair.picture].append(_candidates(scores, boxes, pair.prompt, tags[pair.picture], threshold))

    def _groups(self, pictures: Sequence[NDArray[np.uint8]], prompts: Sequence[Sequence[Prompt]]) -> list[list[int]]:
        """Return the positions of pictures that have one size and a prompt."""
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, picture in enumerate(pictures):
            require_picture(picture)
            if prompts[i]:
                groups[self.sides.of(*picture.shape[1::-1])].append(i)
        return list(groups.values())

    def _prepared(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return resized(picture, *self.sides.of(*picture.shape[1::-1]))

    def _maps(self, prepared: Sequence[NDArray[np.uint8]]) -> list[Maps]:
        pixels = network_input(prepared, self._preparation.mean, self._preparation.std, self._device)
        mask = torch.ones(pixels.shape[0], *pixels.shape[2:], dtype=torch.long, device=self._device)
        with self._precision.products():
            levels = [features for features, _ in self._images.conv_encoder(pixels, mask)]
        return [[level[i] for level in levels] for i in range(len(prepared))]

    def _outputs(
        self, pairs: Sequence[_Pair], maps: dict[int, Maps], size: tuple[int, ...]
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Return (Q, tokens) scores and (Q, 4) boxes of each pair."""
        count = len(pairs)
        ids, text, is_text = self._texts([pair.prompt for pair in pairs])
        levels = [torch.stack([maps[pair.picture][i] for pair in pairs]) for i in range(len(maps[pairs[0].picture]))]
        whole = [level.new_ones(count, *level.shape[2:], dtype=torch.bool) for level in levels]
        self._held_maps.value = (
            list(zip(levels, whole, strict=True)),
            [self._images.position_embedding(*each).to(each[0].dtype) for each in zip(levels, whole, strict=True)],
        )
        self._held_text.value = BaseModelOutput(last_hidden_state=text)
        try:
            with self._precision.products():
                output = self._network(
                    # Of the pixels themselves only the shape is asked for now.
                    pixel_values=levels[0].new_zeros(()).expand(count, 3, *size),
                    input_ids=ids,
                    attention_mask=is_text,
                )
        finally:
            self._held_maps.value = self._held_text.value = None
        scores, boxes = output.logits.float().sigmoid(), output.pred_boxes.float()
        if bool(boxes.isnan().any()) or bool(scores.isnan().any()):
            raise self._precision.not_finite("detector", PRECISION)
        return list(zip(scores.cpu().numpy(), boxes.cpu().numpy(), strict=True))

    def _texts(self, prompts: Sequence[Prompt]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (B, N) token ids, (B, N, H) features and (B, N) which of them are text, for prompts of any lengths."""
        words = [[(self._ends[0],), *((*each, self._stop) for each in prompt.phrases), (self._ends[1],)]
                 for prompt in prompts]  # fmt: skip
        features = self._features({each for prompt in words for each in prompt})
        ids = [torch.tensor([token for each in prompt for token in each], device=self._device) for prompt in words]
        text = [torch.cat([features[each] for each in prompt]) for prompt in words]
        is_text = [torch.ones(len(each), dtype=torch.long, device=self._device) for each in ids]
        return (
            pad_sequence(ids, batch_first=True, padding_value=self._pad),
            pad_sequence(text, batch_first=True),
            pad_sequence(is_text, batch_first=True),
        )

    def _features(self, wanted: set[Tokens]) -> dict[Tokens, torch.Tensor]:
        """Return the (N, H) text features of phrases, each with its full stop, and of the ends of a prompt."""
        new = sorted(wanted - self._phrases.keys(), key=lambda tokens: (len(tokens), tokens))
        for start in range(0, len(new), _PHRASES_AT_ONCE):
            part = new[start : start + _PHRASES_AT_ONCE]
            ids = pad_sequence(
                [torch.tensor(each, device=self._device) for each in part], batch_first=True, padding_value=self._pad
            )
            at = torch.arange(ids.shape[1], device=self._device)
            inside = at < torch.tensor([len(each) for each in part], device=self._device)[:, None]
            # Filling sees itself, because a softmax over nothing is not a number.
            seen = (inside[:, :, None] & inside[:, None, :]) | (at[:, None] == at)
            with self._precision.products():
                hidden = self._text(
                    ids, seen[:, None], torch.zeros_like(ids), at.expand_as(ids), return_dict=True
                ).last_hidden_state
            for tokens, row in zip(part, hidden, strict=True):
                self._phrases[tokens] = row[: len(tokens)].clone()
        for tokens in wanted:
            self._phrases.move_to_end(tokens)
        found = {tokens: self._phrases[tokens] for tokens in wanted}
        while len(self._phrases) > _PHRASES_KEPT:
            self._phrases.popitem(last=False)
        return found


def _exact_parts(network: Any) -> list[nn.Module]:
    """Return the parts that make coordinates or scores. They are small, and 16 bits have 3 digits or less."""
    model = network.model
    return [
        *(*network.class_embed, *network.bbox_embed, *model.decoder.bbox_embed),
        *(model.encoder_output_class_embed, model.encoder_output_bbox_embed, model.enc_output),
        # The network makes the coordinates of places in the format of what these give.
        *model.input_proj_vision,
    ]


def _candidates(
    scores: NDArray[np.float32], boxes: NDArray[np.float32], prompt: Prompt, tags: Sequence[str], threshold: float
) -> Candidates:
    """Return what one prompt found: a candidate for each query and tag whose score reaches the threshold."""
    here = [i for i, tag in enumerate(tags) if tag in prompt.spans]
    table = span_scores(scores, [prompt.spans[tags[i]] for i in here])
    queries, places = np.nonzero(table >= threshold)
    centre, half = boxes[queries, :2], boxes[queries, 2:] / 2
    corners = np.concatenate([centre - half, centre + half], axis=1)
    return Candidates(corners, np.array(here, dtype=np.int64)[places], table[queries, places])


def _joined(parts: Sequence[Candidates]) -> Candidates:
    if not parts:
        return Candidates(np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, np.float32))
    return Candidates(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.tags for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )

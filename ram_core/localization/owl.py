"""OWLv2 (arXiv:2306.09683), on the network of transformers.

Pictures and words are encoded apart and compared at the end, so any number of tags costs one pass over the picture,
and a tag's score does not depend on the others.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ram_core.errors import VocabularyError
from ram_core.localization.memory import Batches
from ram_core.localization.parts import PRECISION, Candidates
from ram_core.localization.pixels import network_input, require_picture, resized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ram_core.localization.pixels import Preparation
    from ram_core.localization.results import PartSpec
    from ram_core.precision import Precision
    from ram_core.transforms import Sides

# How the network is used, for the fingerprint. Whoever changes what is found must change this.
METHOD = "a-photo-of-v1"
THRESHOLD = 0.1  # of the model card's example

_TEMPLATE = "a photo of a {}"  # likewise
_PICTURES_AT_ONCE = 8
_TAGS_AT_ONCE = 128
_TAGS_KEPT = 20_000


class Owl:
    """A loaded detector. One thread at a time.

    Args:
        network: of transformers, with its weights, in evaluation mode, on its device.
        tokenizer: of transformers.
        preparation: size and levels of pictures; ``sides.long`` is the side of the network's square.
        spec: what identifies it.
        precision: number format to compute in.
    """

    def __init__(
        self, network: Any, tokenizer: Any, preparation: Preparation, spec: PartSpec, precision: Precision
    ) -> None:
        self._network = network
        self._precision = precision
        # The heads, which are small, stay float32.
        precision.reduce(network.owlv2)
        self._device = network.device
        self._tokenizer = tokenizer
        self._preparation = preparation
        self._side = preparation.sides.long
        self._spec = spec
        self._room = int(network.config.text_config.max_position_embeddings)
        self._ids: dict[str, list[int]] = {}
        self._queries: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._batches = Batches(_PICTURES_AT_ONCE)

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
        """The least score of the model card's example."""
        return THRESHOLD

    def refused(self, tags: Sequence[str]) -> dict[str, str]:
        """Return the tags that the text encoder cannot read whole, each with the reason."""
        reasons: dict[str, str] = {}
        for tag in tags:
            if not tag.strip():
                reasons[tag] = "has no words"
            elif (needed := len(self._tokens(tag))) > self._room:
                reasons[tag] = f"has {needed} tokens with its sentence, but the detector takes {self._room}"
        return reasons

    @torch.inference_mode()
    def detect(
        self, pictures: Sequence[NDArray[np.uint8]], tags: Sequence[Sequence[str]], threshold: float
    ) -> list[Candidates]:
        """Find the boxes of each picture's own tags; see ``Detector``."""
        everything = sorted({tag for own in tags for tag in own})
        if refused := self.refused(everything):
            raise VocabularyError("; ".join(f"tag {tag!r} {reason}" for tag, reason in refused.items()))
        for picture in pictures:
            require_picture(picture)
        queries = self._embedded(everything)
        asked = [(picture, own) for picture, own in zip(pictures, tags, strict=True) if own]

        def look(part: Sequence[tuple[NDArray[np.uint8], Sequence[str]]]) -> list[Candidates]:
            return self._look(part, queries, threshold)

        found = iter(self._batches.run(asked, look))
        nothing = Candidates(np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, np.float32))
        return [next(found) if own else nothing for own in tags]

    def _look(
        self,
        asked: Sequence[tuple[NDArray[np.uint8], Sequence[str]]],
        queries: dict[str, torch.Tensor],
        threshold: float,
    ) -> list[Candidates]:
        pixels = torch.cat([self._square(picture) for picture, _ in asked])
        with self._precision.products():
            maps = self._network.image_embedder(pixel_values=pixels)[0].float()  # (B, h, w, C)
        patches = maps.flatten(1, 2)  # (B, Q, C)
        boxes = self._network.box_predictor(patches, maps).float()
        found = []
        for row, (picture, own) in enumerate(asked):
            words = torch.stack([queries[tag] for tag in own])[None]  # (1, T, D)
            scores = self._network.class_predictor(patches[row : row + 1], words)[0][0].float().sigmoid()  # (Q, T)
            if not (bool(scores.isfinite().all()) and bool(boxes[row].isfinite().all())):
                raise self._precision.not_finite("detector", PRECISION)
            found.append(_candidates(scores.cpu().numpy(), boxes[row].cpu().numpy(), picture.shape, threshold))
        return found

    def _square(self, picture: NDArray[np.uint8]) -> torch.Tensor:
        """Return (1, 3, side, side): the picture in the upper left corner, the rest grey.

        The authors fill with grey, in their code for inference. The processor of transformers 5.23 fills with black.
        """
        ready = resized(picture, *self.sides.of(*picture.shape[1::-1]))
        mean, std = self._preparation.mean, self._preparation.std
        grey = [(0.5 - middle) / spread for middle, spread in zip(mean, std, strict=True)]
        square = torch.tensor(grey, device=self._device).view(1, 3, 1, 1).repeat(1, 1, self._side, self._side)
        square[:, :, : ready.shape[0], : ready.shape[1]] = network_input([ready], mean, std, self._device)
        return square

    def _tokens(self, tag: str) -> list[int]:
        if (found := self._ids.get(tag)) is None:
            if len(self._ids) >= _TAGS_KEPT:
                self._ids.clear()
            sentence = _TEMPLATE.format(tag.strip().lower())
            found = self._ids[tag] = self._tokenizer(sentence, verbose=False)["input_ids"]
        return found

    def _embedded(self, tags: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the (D,) query of each tag."""
        new = [tag for tag in tags if tag not in self._queries]
        for start in range(0, len(new), _TAGS_AT_ONCE):
            part = new[start : start + _TAGS_AT_ONCE]
            # Filled up with 0 to the full length: the encoder looks back only, and is read at the end of the text.
            ids = torch.zeros(len(part), self._room, dtype=torch.long, device=self._device)
            seen = torch.zeros_like(ids)
            for row, tag in enumerate(part):
                tokens = self._tokens(tag)
                ids[row, : len(tokens)] = torch.tensor(tokens, device=self._device)
                seen[row, : len(tokens)] = 1
            with self._precision.products():
                queries = self._network.owlv2.get_text_features(input_ids=ids, attention_mask=seen).pooler_output
            self._queries.update(zip(part, queries.float(), strict=True))
        found = {tag: self._queries[tag] for tag in tags}
        for tag in tags:
            self._queries.move_to_end(tag)
        while len(self._queries) > _TAGS_KEPT:
            self._queries.popitem(last=False)
        return found


def _candidates(
    scores: NDArray[np.float32], boxes: NDArray[np.float32], shape: tuple[int, ...], threshold: float
) -> Candidates:
    patches, places = np.nonzero(scores >= threshold)
    centre, half = boxes[patches, :2], boxes[patches, 2:] / 2
    corners = np.concatenate([centre - half, centre + half], axis=1)
    height, width = shape[:2]
    # Fractions of the square become fractions of the picture, which lies in its upper left corner.
    longest = max(height, width)
    corners *= np.array([longest / width, longest / height] * 2, dtype=np.float32)
    return Candidates(corners, places.astype(np.int64), scores[patches, places])

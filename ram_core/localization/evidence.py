"""Where a recogniser looked when it gave a tag its score. Needs no further weights.

A map says which places spoke for a tag. It is evidence, not a box: it is coarse, it may lie on a part or on the
surroundings that usually go with a thing, and two things of one kind share it.

``lite``: the class activation map (arXiv:1512.04150). Its classifier is linear and comes after a mean over all places,
so the score's logit is exactly the mean of the map, plus a constant.

RAM, RAM++ and Tag2Text: each tag is a query that attends to image tokens. The map is its attention in the last layer,
as a mean over heads; or, with ``gradient``, only as far as more attention would raise the score (attention times
its gradient, where positive: arXiv:2103.15679, section 3.1, for one layer).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from ram_core.errors import CheckpointError, ModelError, VocabularyError
from ram_core.lite.imagenet import CLASSES, upper_weights
from ram_core.lite.model import Lite
from ram_core.recognizer import NetworkRecognizer
from ram_core.transforms import normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from ram_core.modeling.bert import Attention, KeysValues
    from ram_core.vocabulary import TagVocabulary

Method = Literal["attention", "gradient"]


def evidence(model: Any, image: Image.Image, tag: str | int, *, method: Method = "attention") -> NDArray[np.float32]:
    """Return where a model looked for a tag.

    Args:
        model: a loaded ``lite``, ``ram``, ``ram_plus`` or ``tag2text``.
        image: upright, of any size and mode.
        tag: name of a tag of the model's vocabulary, in any case of letters, or its id.
        method: for models with attention: ``attention`` or ``gradient``; others ignore it.

    Returns:
        (h, w) float32 in 0..1 over the whole image, row by row from its top left; the strongest place is 1. All zeros
        if no place speaks for the tag. 9 x 9 for ``lite``, 12 x 12 for the published RAM, RAM++ and Tag2Text.

    Raises:
        ModelError: the model has no such map, or the method is unknown.
        VocabularyError: the vocabulary does not have the tag.
        CheckpointError: the network computes values that are not finite.
    """
    if method not in get_args(Method):
        raise ModelError(f"method {method!r} is unknown; use {' or '.join(get_args(Method))}")
    if isinstance(model, Lite):
        raw = activation_maps(model, image, [_tag_id(model.vocabulary, tag)])[0]
    elif isinstance(model, NetworkRecognizer):
        raw = _attended(model, image, _tag_id(model.vocabulary, tag), method)
    else:
        raise ModelError(
            f"there is no map of where a {type(model).__name__} looked; use lite, ram, ram_plus or tag2text"
        )
    if not np.isfinite(raw).all():
        raise CheckpointError("the network gives values that are not finite; its checkpoint is damaged: verify it")
    positive = np.maximum(raw, 0)
    strongest = positive.max()
    scaled: NDArray[np.float32] = (positive / strongest if strongest > 0 else positive).astype(np.float32)
    return scaled


@torch.inference_mode()
def activation_maps(model: Lite, image: Image.Image, tags: Sequence[int]) -> NDArray[np.float32]:
    """Return (T, h, w) float32 class activation maps of ``lite``, before any scaling.

    The mean of a map, plus the bias of its class, is the logit. The map of a tag above classes is the mean of theirs,
    each weighted by its share of the tag's score.
    """
    network = model.network
    preprocessing = model.preprocessing
    first = network.classifier.weight
    pixels = torch.from_numpy(preprocessing(image).copy())[None].to(first.device)
    batch = normalise(pixels, preprocessing.mean, preprocessing.std).to(first.dtype)
    features = network.features(batch)[0].float()  # (C, h, w)
    of_classes: torch.Tensor = network.classifier.weight.float()  # (1000, C)
    logits = of_classes @ features.mean(dim=(1, 2)) + network.classifier.bias.float()
    upper = upper_weights().T  # (U, 1000)

    def weights_of(tag: int) -> torch.Tensor:
        below = [tag] if tag < CLASSES else np.flatnonzero(upper[tag - CLASSES]).tolist()
        shares: torch.Tensor = logits[below].softmax(dim=0)
        return shares @ of_classes[below]

    weights = torch.stack([weights_of(tag) for tag in tags])  # (T, C)
    return torch.einsum("tc,chw->thw", weights, features).cpu().numpy()


def _attended(model: NetworkRecognizer[Any], image: Image.Image, tag: int, method: Method) -> NDArray[np.float32]:
    preprocessing, runner = model.preprocessing, model.runner
    pixels = torch.from_numpy(preprocessing(image).copy())[None].to(runner.device)
    # A copy made here may take part in gradients; one made in inference mode may not.
    tokens = runner.embed(normalise(pixels, preprocessing.mean, preprocessing.std)).clone()
    network = runner.network
    with torch.enable_grad() if method == "gradient" else torch.no_grad(), runner.autocast():
        shares, logit = _last_attention(network, tokens, tag)
        if method == "gradient":
            (slope,) = torch.autograd.grad(logit, shares)
            shares = (shares * slope).clamp(min=0)
    places = shares.detach()[0, :, 0, 1:].float().mean(dim=0)  # over heads; the first token is the global one
    side = math.isqrt(len(places))
    return places.view(side, side).cpu().numpy()


def _last_attention(network: Any, tokens: torch.Tensor, tag: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode one tag of one image.

    Returns:
        (1, heads, 1, 1 + N) attention of the last layer, as a leaf of the gradient; and the tag's logit.
    """
    part = slice(tag, tag + 1)
    hidden, projected = network.queries(part, tokens)
    *others, last = zip(network.tagging_head.encoder, network.tagging_head.look_at(tokens), strict=True)
    for layer, memory in others:
        hidden = layer(hidden, memory, projected)
        projected = None
    layer, memory = last
    block = layer.crossattention
    query = block.self.query(hidden) if projected is None else projected
    shares = _shares(block.self, query, memory).detach().requires_grad_(torch.is_grad_enabled())
    mixed = (shares.to(memory.values.dtype) @ memory.values).transpose(1, 2).flatten(2)
    attended = block.output(mixed, hidden)
    decoded = layer.output(layer.intermediate(attended), attended)
    with torch.autocast(decoded.device.type, enabled=False):
        logit = network.classify(decoded.float(), part)
    return shares, logit.sum()


def _shares(attention: Attention, query: torch.Tensor, memory: KeysValues) -> torch.Tensor:
    """Return (1, heads, 1, N): how a query divides its attention."""
    split = query.view(*query.shape[:2], attention.heads, -1).transpose(1, 2)
    scores = split.float() @ memory.keys.float().transpose(-1, -2) / math.sqrt(split.shape[-1])
    return scores.softmax(dim=-1)


def _tag_id(vocabulary: TagVocabulary, tag: str | int) -> int:
    if isinstance(tag, int):
        if not 0 <= tag < len(vocabulary):
            raise VocabularyError(f"vocabulary {vocabulary.name!r} has tags 0 to {len(vocabulary) - 1}, not {tag}")
        return tag
    wanted = tag.strip().lower()
    for place, name in enumerate(vocabulary.names):
        if name.lower() == wanted:
            return place
    raise VocabularyError(f"vocabulary {vocabulary.name!r} has no tag {tag!r}")

"""Weights to begin with, where there is no checkpoint to start from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from ram_core.errors import TrainingError
from ram_core.weights import twin_in_tagging_head

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ram_core.modeling.ram import Tagger

# A layer keeps about this share of its input's size, so that residual branches start small.
_GAIN = 0.7
_EMBEDDING = 0.02  # deviation of embeddings and of position biases (arXiv:1810.04805, arXiv:2103.14030)
_SCALE = math.log(1 / 0.07)  # the sharpness of RAM++'s weights at the start (arXiv:2103.00020, section 2.5)


def initial_weights(network: Tagger, labels: torch.Tensor | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
    """Draw weights under official names, for ``torch.save({"model": …})``.

    Args:
        network: of the wanted sizes, also on the ``meta`` device.
        labels: the label embedding of RAM, (T, E), or RAM++, (T * D, E): CLIP's vectors, which do not learn.
        seed: of the weights.

    Raises:
        TrainingError: the labels are missing or have another shape.
    """
    draw = torch.Generator().manual_seed(seed)
    weights = {key: _drawn(key, empty, draw) for key, empty in network.state_dict().items()}
    if "label_embed" in weights:
        wanted = tuple(weights["label_embed"].shape)
        if labels is None or tuple(labels.shape) != wanted:
            given = "nothing" if labels is None else tuple(labels.shape)
            raise TrainingError(f"the label embedding is {given}; give CLIP's vectors of the tags, {wanted}")
        weights["label_embed"] = labels.float()
    return _tied(weights)


def _drawn(key: str, empty: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    shape = empty.shape
    if key == "reweight_scale":
        return torch.tensor(_SCALE)
    if "norm" in key.lower() and key.endswith("weight"):
        return torch.ones(shape)
    if key.endswith("bias") or key == "fc.b":
        return torch.zeros(shape)
    noise = torch.randn(shape, generator=draw)
    if "embeddings" in key or "label_embed" in key or key.endswith("bias_table"):
        return _EMBEDDING * noise
    if key == "wordvec_proj.weight":
        return noise  # labels have unit length, so their numbers are small already
    inputs = shape[-1] if key == "fc.W" else math.prod(shape[1:])
    return _GAIN / math.sqrt(inputs) * noise


def _tied(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: weights.get(twin_in_tagging_head(key) or key, each) for key, each in weights.items()}

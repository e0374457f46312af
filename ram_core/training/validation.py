"""How well a network tags images that it does not learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ram_core.errors import TrainingError
from ram_core.metrics import average_precision

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ram_core.training.batch import TrainingBatch
    from ram_core.training.networks import Trainable


@torch.no_grad()
def mean_average_precision(network: Trainable, batches: Iterable[TrainingBatch]) -> float:
    """Return the mean, over the tags that some image has, of the average precision: 0..1, 1 is best.

    The network is in the same mode afterwards as before.

    Raises:
        TrainingError: no image has a tag.
    """
    learning, device = network.training, next(network.parameters()).device
    network.eval()
    scores, targets = [], []
    try:
        for batch in batches:
            scores.append(network(batch.pixels.to(device)).logits.cpu().numpy())
            targets.append(batch.tags.cpu().numpy() > 0)
    finally:
        network.train(learning)
    if not any(each.any() for each in targets):
        raise TrainingError("no image for validation has a tag; give images with tags")
    wanted, found = np.concatenate(targets), np.concatenate(scores)
    present = np.flatnonzero(wanted.any(axis=0))
    return float(np.mean([average_precision(found[:, tag], wanted[:, tag]) for tag in present]))

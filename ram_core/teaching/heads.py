"""Heads: what gives a taught tag its score.

A head is linear. Its score is the sigmoid of ``x · weights + own · logit + bias``, where x are the kept features of an
image and logit is that of the score that the model itself gives the tag. The bias puts the calibrated threshold at 0.5.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Method = Literal["threshold", "description", "own+head", "head"]

THRESHOLD = 0.5
"""A head's score above this assigns its tag."""

OWN_FLOORS = {"pooled": 0.01, "tokens": 0.3}
"""The model's own scores below this count as this, by the kind of its features: most of them are not stored."""

OWN_SCALE = 0.25
"""The logit of the model's own score is multiplied by this: it ranges over about ten, other inputs over about one."""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """How a taught tag gets its score.

    Attributes:
        tag_id: the tag in the taught vocabulary.
        method: ``head``: features alone; ``own+head``: features and the model's own score; ``description``: the model
            scores the tag's name, as an open set; ``threshold``: the model's own score, with another threshold.
        weights: (F,) float32; empty for ``description`` and ``threshold``.
        own: weight of the scaled logit of the model's own score.
        bias: added to the sum.
    """

    tag_id: int
    method: Method
    weights: NDArray[np.float32]
    own: float = 0.0
    bias: float = 0.0

    def logits(self, x: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (B,) float32 of (B, F) inputs and (B,) scaled logits of the model's own scores."""
        return (x @ self.weights + np.float32(self.own) * own + np.float32(self.bias)).astype(np.float32)

    @property
    def is_linear(self) -> bool:
        """Whether it has weights."""
        return self.method in {"head", "own+head"}


def own_logit(scores: NDArray[np.float32], floor: float) -> NDArray[np.float32]:
    """Return the scaled logits of scores that a model gives. Those below the floor are on it.

    Args:
        scores: any shape, in 0..1.
        floor: one of ``OWN_FLOORS``.
    """
    clipped = np.clip(scores.astype(np.float64), floor, 1 - 1e-4)
    return (OWN_SCALE * np.log(clipped / (1 - clipped))).astype(np.float32)


def score_of_own_logit(logit: float) -> float:
    """Return the score of which ``own_logit`` makes this logit."""
    return float(1 / (1 + np.exp(-logit / OWN_SCALE)))


def heads_sha256(heads: Sequence[Head]) -> str:
    """Return a hash (hex) of all that affects the scores of heads, in whatever order they are given."""
    digest = hashlib.sha256()
    for head in sorted(heads, key=lambda each: each.tag_id):
        digest.update(f"{head.tag_id} {head.method} {head.own!r} {head.bias!r} {len(head.weights)};".encode())
        digest.update(head.weights.astype("<f4").tobytes())
    return digest.hexdigest()


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return scores in 0..1."""
    return (1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -60, 60)))).astype(np.float32)

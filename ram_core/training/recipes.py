"""The official recipes: sizes, learning rates, views (arXiv:2306.03514, section 4; official configurations)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from ram_core.errors import TrainingError
from ram_core.training.augmentation import Augmentation, View

if TYPE_CHECKING:
    from torch import nn

    from ram_core.transforms import Triple

# CLIP's channel means and deviations (arXiv:2103.00020, official code). The official training uses them for RAM too,
# although its inference uses ImageNet's.
CLIP_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Triple = (0.26862954, 0.26130258, 0.27577711)
CLIP_SIZE = 224  # pixels


@dataclass(frozen=True, slots=True)
class Decay:
    """In the first epoch the rate rises, step by step. Each later one has a constant share of the one before.

    Attributes:
        rate: the highest rate.
        factor: from one epoch to the next.
        least: the lowest rate of later epochs.
        warmup_steps: steps of the first epoch in which the rate rises.
        warmup_from: rate of the first step.
    """

    rate: float = 1e-4
    factor: float = 0.9
    least: float = 5e-7
    warmup_steps: int = 3000
    warmup_from: float = 5e-7

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def at(self, epoch: int, step: int, epochs: int) -> float:  # noqa: ARG002  (as of every schedule)
        """Return the learning rate of a step of an epoch, both from 0."""
        if epoch:
            return max(self.least, self.rate * self.factor**epoch)
        if step >= self.warmup_steps:
            return self.rate
        return self.warmup_from + (self.rate - self.warmup_from) * step / self.warmup_steps


@dataclass(frozen=True, slots=True)
class Cosine:
    """The rate falls from epoch to epoch along half a wave, and is constant within one.

    Attributes:
        rate: rate of the first epoch.
        least: rate that it would have after the last one.
    """

    rate: float = 5e-6
    least: float = 0.0

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def at(self, epoch: int, step: int, epochs: int) -> float:  # noqa: ARG002
        """Return the learning rate of a step of an epoch, both from 0."""
        return self.least + (self.rate - self.least) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def _check_rate(rate: float) -> None:
    if not 0 < rate < math.inf:  # false for what is no number, too
        raise TrainingError(f"the learning rate is {rate:g}; give a number above 0, for example 5e-6")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is trained. Change one with ``dataclasses.replace``.

    Attributes:
        name: of the recipe.
        image_size: side of the images, in pixels.
        batch_size: images of a step, on each GPU.
        epochs: times that every image is seen.
        schedule: the learning rates.
        own_clip_view: whether CLIP sees another random view of the image than the model, of 224 pixels. If not, both
            see the same, which must have 224 pixels too.
        weight_decay: of AdamW, for all parameters.
        mean: channel means, of pixels in 0..1.
        std: channel deviations, of pixels in 0..1.
        dropout: of BERT's layers.
        drop_path: stochastic depth of the image encoder.
        augmentation: how views are made; its size is that of the recipe.
    """

    name: str
    image_size: int
    batch_size: int
    epochs: int
    schedule: Decay | Cosine
    own_clip_view: bool
    weight_decay: float = 0.05
    mean: Triple = CLIP_MEAN
    std: Triple = CLIP_STD
    dropout: float = 0.1
    drop_path: float = 0.1
    augmentation: Augmentation = field(default_factory=lambda: Augmentation(CLIP_SIZE))

    def __post_init__(self) -> None:
        if self.augmentation.size != self.image_size:
            raise TrainingError(
                f"recipe {self.name!r} has images of {self.image_size} pixels and views of {self.augmentation.size}; "
                "give both the same size"
            )
        if not self.own_clip_view and self.image_size != CLIP_SIZE:
            raise TrainingError(
                f"recipe {self.name!r} shows CLIP the model's images of {self.image_size} pixels, but CLIP needs "
                f"{CLIP_SIZE}; set own_clip_view"
            )

    def learning_rate(self, epoch: int, step: int) -> float:
        """Return the learning rate of a step of an epoch, both from 0."""
        return self.schedule.at(epoch, step, self.epochs)

    def optimizer(self, network: nn.Module) -> torch.optim.AdamW:
        """Return AdamW for the parameters that learn, at the rate of the first step."""
        learning = [each for each in network.parameters() if each.requires_grad]
        return torch.optim.AdamW(learning, lr=self.learning_rate(0, 0), weight_decay=self.weight_decay)

    def views_of(self, seed: int, epoch: int, index: int, *, clip: bool = True) -> list[View]:
        """Return what makes the model's view of an image in an epoch, and CLIP's, if that is another.

        Args:
            seed: of the training.
            epoch: from 0.
            index: of the image in the data set.
            clip: whether CLIP's is wanted.
        """
        views = [View(self.augmentation, (seed, epoch, index, 0))]
        if clip and self.own_clip_view:
            views.append(View(replace(self.augmentation, size=CLIP_SIZE), (seed, epoch, index, 1)))
        return views


PRETRAIN = Recipe(name="pretrain", image_size=CLIP_SIZE, batch_size=52, epochs=5, schedule=Decay(), own_clip_view=False)
FINETUNE = Recipe(
    name="finetune",
    image_size=384,
    batch_size=26,
    epochs=2,
    schedule=Cosine(),
    own_clip_view=True,
    augmentation=Augmentation(384),
)
RECIPES = {each.name: each for each in (PRETRAIN, FINETUNE)}


def recipe(name: str) -> Recipe:
    """Return a recipe by name. Raises ``TrainingError`` that lists the known names."""
    if name not in RECIPES:
        raise TrainingError(f"unknown recipe {name!r}; known recipes: {', '.join(RECIPES)}")
    return RECIPES[name]

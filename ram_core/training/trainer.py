"""The loop: steps, checkpoints, and going on after any end, with the same result as without.

What is random in a step (dropout, stochastic depth) depends on the seed and the number of the step alone, and so do the
images of a batch. So a state is the weights, the optimizer and the number of the next step.

Several processes share the work where ``accelerate launch`` or ``torchrun`` started them: each has its own batches, and
gradients are averaged.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ram_core.errors import TrainingError, TrainingStoppedError
from ram_core.training.files import room
from ram_core.training.loading import save_checkpoint
from ram_core.training.processes import join_processes
from ram_core.training.states import States

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ram_core.training.batch import TrainingBatch
    from ram_core.training.networks import Trainable
    from ram_core.training.recipes import Recipe

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Batches(Protocol):
    """The data of a training."""

    def steps(self) -> int:
        """Return the number of batches of an epoch, at least 1."""

    def epoch(self, number: int, start: int) -> Iterator[TrainingBatch]:
        """Yield the batches of an epoch from batch ``start`` on. They depend on their numbers alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to run a recipe.

    Attributes:
        seed: of everything random.
        precision: number format of matrix products: ``float32``, ``bfloat16`` or ``float16``.
        accumulate: batches whose gradients make one step. The learning rate counts steps.
        recompute: compute activations again for the gradients: less memory, more time.
        save_every: steps between two saved states; the end of an epoch is saved too.
        keep: states that are kept.
    """

    seed: int = 0
    precision: str = "float32"
    accumulate: int = 1
    recompute: bool = False
    save_every: int = 500
    keep: int = 2

    def __post_init__(self) -> None:
        if self.precision not in FORMATS:
            raise TrainingError(f"precision {self.precision!r} is unknown; use {', '.join(FORMATS)}")
        for name in ("accumulate", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} is {getattr(self, name)}; give at least 1")


@dataclass(frozen=True, slots=True)
class Progress:
    """What one step did.

    Attributes:
        epoch: from 0.
        step: of the epoch, from 0.
        steps: of the epoch.
        learning_rate: of this step.
        losses: of the step's last batch, in this process.
    """

    epoch: int
    step: int
    steps: int
    learning_rate: float
    losses: dict[str, float]


class Watch:
    """Looks on while a training runs. This one sees and wants nothing."""

    def began(self, steps_done: int, epochs_done: int) -> None:
        """Take note that the training begins, or goes on after so many steps in all, and whole epochs."""

    def stepped(self, progress: Progress) -> None:
        """Take note of a step."""

    def scored(self, epochs: int, score: float) -> None:
        """Take note of the score after a number of epochs; 0 before the first step."""

    def wants_stop(self) -> bool:
        """Return whether the training shall stop after this step."""
        return False


@dataclass(slots=True)
class _Position:
    epoch: int = 0
    step: int = 0
    best: float | None = field(default=None)


def require_steps(batches: Batches, options: Options) -> None:
    """Raise ``TrainingError`` if an epoch has no whole step."""
    if batches.steps() < options.accumulate:
        raise TrainingError(
            f"an epoch has {batches.steps()} batches, but a step accumulates {options.accumulate}; use fewer"
        )


class _Losses(nn.Module):
    """A network whose ``forward`` is its losses, because gradients are averaged around ``forward``."""

    def __init__(self, network: Trainable) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: TrainingBatch) -> dict[str, torch.Tensor]:
        """Return the losses."""
        return self.network.losses(batch)


class Trainer:
    """Trains a network by a recipe.

    Args:
        network: loaded for training, on its device.
        batches: the data.
        recipe: what to do.
        folder: where states and checkpoints go: ``states/``, ``last.pth`` after every epoch, ``best.pth`` after the one
            with the highest score.
        options: how to do it.
        validate: returns the score of the network, higher is better, before the first step and after every epoch, in
            every process; it may put the network into evaluation mode.
        watch: is told of steps and scores, and may end the training.
        about: further things that must be the same when the training goes on, such as the hash of the data; by name.
    """

    def __init__(  # noqa: PLR0913  (three things, a place, and ways to look on)
        self,
        network: Trainable,
        batches: Batches,
        recipe: Recipe,
        folder: Path | str,
        *,
        options: Options | None = None,
        validate: Callable[[Trainable], float] | None = None,
        watch: Watch | None = None,
        about: Mapping[str, str] | None = None,
    ) -> None:
        self.network, self.batches, self.recipe = network, batches, recipe
        self.options = options or Options()
        require_steps(batches, self.options)
        self.folder = Path(folder)
        self.states = States(self.folder / "states", self.options.keep)
        self.device = next(network.parameters()).device
        self.optimizer = recipe.optimizer(network)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.options.precision == "float16")
        self._validate, self._watch = validate, watch or Watch()
        self._about = dict(about or {})
        self._position = _Position()
        self.rank, self.processes = join_processes(self.device)
        losses = _Losses(network)
        self._losses: nn.Module = DistributedDataParallel(losses) if self.processes > 1 else losses
        network.recompute(activations=self.options.recompute)

    def run(self, *, resume: bool = False) -> Path:
        """Train to the end of the recipe.

        Args:
            resume: go on from the last state in the folder, or begin if none was saved yet.

        Returns:
            The checkpoint: the best one if there is a score, otherwise the last.

        Raises:
            TrainingStoppedError: the watcher wanted it to stop. The state is saved.
            TrainingError: a loss is not finite, the disk is full, or the folder has the states of another training, or
                has lost its own.
        """
        if self.rank == 0:
            with room(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                self.states.sweep()
        stored = self.states.last()
        if stored is None and resume:
            self.states.refuse_lost()
        if stored is not None and not resume:
            raise TrainingError(
                f"{self.states.folder} has states of a training; resume it, delete them, or use another folder"
            )
        if stored is not None:
            self._restore(stored)
        at, steps = self._position, self.batches.steps() // self.options.accumulate
        self._watch.began(at.epoch * steps + at.step, at.epoch)
        if stored is None and self._validate is not None:
            self._watch.scored(0, self._validate(self.network))
        while self._position.epoch < self.recipe.epochs:
            self._epoch()
        return self.folder / ("best.pth" if self._validate else "last.pth")

    def _epoch(self) -> None:
        at, steps = self._position, self.batches.steps() // self.options.accumulate
        self.network.train()
        batches = iter(self.batches.epoch(at.epoch, at.step * self.options.accumulate))
        while at.step < steps:
            rate = self.recipe.learning_rate(at.epoch, at.step)
            losses = self._step(batches, rate)
            self._watch.stepped(Progress(at.epoch, at.step, steps, rate, losses))
            at.step += 1
            if self._is_stop_wanted():
                self._save()
                raise TrainingStoppedError(
                    f"stopped after step {at.step:,} of {steps:,} in epoch {at.epoch + 1}; the state is in "
                    f"{self.states.folder}"
                )
            if at.step % self.options.save_every == 0 and at.step < steps:
                self._save()
        self._end_of_epoch()

    def _step(self, batches: Iterator[TrainingBatch], rate: float) -> dict[str, float]:
        at, count = self._position, self.options.accumulate
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        values: dict[str, float] = {}
        for part in range(count):
            batch = next(batches, None)
            if batch is None:
                raise TrainingError(f"epoch {at.epoch} has fewer batches than it said; check the data set")
            _seed(self.options.seed, at.epoch, at.step * count + part, self.rank)
            with self._apart(last=part == count - 1):
                with torch.autocast(
                    self.device.type, FORMATS[self.options.precision], enabled=self.options.precision != "float32"
                ):
                    losses = self._losses(batch.to(self.device))
                values = {name: float(loss.detach()) for name, loss in losses.items()}
                self._check(values)
                self._scaler.scale(losses["total"] / count).backward()
        self._scaler.step(self.optimizer)
        self._scaler.update()
        return values

    def _is_stop_wanted(self) -> bool:
        """Return whether any process wants to stop: they do it after the same step."""
        wanted = self._watch.wants_stop()
        if self.processes == 1:
            return wanted
        votes = torch.tensor(int(wanted), device=self.device)
        torch.distributed.all_reduce(votes)
        return bool(votes)

    def _apart(self, *, last: bool) -> AbstractContextManager[Any]:
        """Return a context that leaves averaging of gradients to the last batch of a step."""
        return (
            nullcontext() if last or not isinstance(self._losses, DistributedDataParallel) else self._losses.no_sync()
        )

    def _check(self, losses: dict[str, float]) -> None:
        wrong = [name for name, value in losses.items() if not math.isfinite(value)]
        if wrong:
            at = self._position
            rate = self.optimizer.param_groups[0]["lr"]
            good = self.states.newest()
            raise TrainingError(
                f"the loss {wrong[0]!r} is {losses[wrong[0]]} at epoch {at.epoch + 1}, step {at.step + 1}, with a "
                f"learning rate of {rate:g}; train again in another folder with a lower rate, or in bfloat16 or float32"
                + (f", from {good}" if good else "")
            )

    def _end_of_epoch(self) -> None:
        at = self._position
        score = None if self._validate is None else self._validate(self.network)
        if score is not None:
            self._watch.scored(at.epoch + 1, score)
        at.epoch, at.step = at.epoch + 1, 0
        is_best = score is not None and (at.best is None or score > at.best)
        if is_best:
            at.best = score
        if self.rank == 0:
            with room(self.folder):
                self.folder.stat()  # if somebody deleted it, it is not made again
                entries = {"epoch": at.epoch, "recipe": self.recipe.name, "score": score}
                if is_best:
                    save_checkpoint(self.network, self.folder / "best.pth", **entries)
                save_checkpoint(self.network, self.folder / "last.pth", **entries)
        self._save()

    def _save(self) -> None:
        if self.rank:
            return
        at = self._position
        state = {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "position": {"epoch": at.epoch, "step": at.step, "best": at.best},
            "training": self._identity(),
        }
        with room(self.folder):
            self.states.save(at.epoch * self.batches.steps() + at.step, state)

    def _restore(self, state: dict[str, Any]) -> None:
        if state["training"] != self._identity():
            changed = [name for name, value in self._identity().items() if state["training"].get(name) != value]
            raise TrainingError(
                f"{self.states.folder} is of a training with other {', '.join(changed)}; train with the same, or in "
                "another folder"
            )
        self.network.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self._position = _Position(**state["position"])

    def _identity(self) -> dict[str, Any]:
        """Return what must not change when a training goes on."""
        return {
            "recipe": repr(self.recipe),
            "seed": self.options.seed,
            "precision": self.options.precision,
            "accumulate": self.options.accumulate,
            "processes": self.processes,
            "batches": self.batches.steps(),
            **self._about,
        }


def _seed(seed: int, epoch: int, batch: int, rank: int) -> None:
    """Make what is random in a batch depend on these numbers alone."""
    mixed = seed
    for number in (epoch, batch, rank):
        mixed = (mixed * 1_000_003 + number + 1) % (1 << 63)
    torch.manual_seed(mixed)

"""A training of seconds, also as a program: ``python -m tests.small_training CHECKPOINT FOLDER``, resumed if begun.

Started several times by ``torchrun``, it is one training of several processes.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ram_core import TagVocabulary
from ram_core.modeling.tiny import write_tiny_checkpoint
from ram_core.training import TrainingBatch, load_for_training, multi_hot
from ram_core.training.processes import join_processes, own_device
from ram_core.training.recipes import PRETRAIN, Decay
from ram_core.training.trainer import Options, Progress, Trainer, Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

TAGS = 8
STEPS = 20  # of an epoch
RECIPE = replace(PRETRAIN, epochs=2, schedule=Decay(warmup_steps=5), dropout=0.1, drop_path=0.2)
CALM = replace(RECIPE, epochs=1, dropout=0.0, drop_path=0.0)
OPTIONS = Options(seed=3, save_every=6)
VOCABULARY = TagVocabulary.from_names("few", [f"tag {number}" for number in range(TAGS)])


class Noise:
    """Batches that depend on their numbers. Process r of n has the batches r, r + n, …"""

    def __init__(self, steps: int = STEPS, rank: int = 0, processes: int = 1) -> None:
        self._steps = steps
        self._rank, self._processes = rank, processes

    def steps(self) -> int:
        return self._steps

    def epoch(self, number: int, start: int) -> Iterator[TrainingBatch]:
        for own in range(start, self._steps):
            step = own * self._processes + self._rank
            draw = torch.Generator().manual_seed(1000 * number + step)
            texts = torch.nn.functional.normalize(torch.randn(2, 512, generator=draw), dim=1)
            tags = multi_hot([[step % TAGS], [1, (step + number) % TAGS]], TAGS)
            pixels = torch.randn(2, 3, 32, 32, generator=draw)
            yield TrainingBatch(pixels, ["a dog on the lawn", f"step {step}"], tags, tags, texts * 10, texts)


def trainer(checkpoint: Path, folder: Path, **options: Any) -> Trainer:
    given: dict[str, Any] = {"options": OPTIONS, "recipe": RECIPE, "batches": Noise(), **options}
    network = load_for_training(
        "ram_plus",
        checkpoint=checkpoint,
        vocabulary=VOCABULARY,
        dropout=given["recipe"].dropout,
        drop_path=given["recipe"].drop_path,
    )
    return Trainer(network, given.pop("batches"), given.pop("recipe"), folder, **given)


def write_start(path: Path) -> Path:
    write_tiny_checkpoint("ram_plus", path, tags=TAGS)
    return path


class Seen(Watch):
    """Keeps what happened, and may stop the training after a step."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.steps: list[Progress] = []
        self.scores: list[tuple[int, float]] = []
        self._stop_after = stop_after

    def stepped(self, progress: Progress) -> None:
        self.steps.append(progress)

    def scored(self, epochs: int, score: float) -> None:
        self.scores.append((epochs, score))

    def wants_stop(self) -> bool:
        return len(self.steps) == self._stop_after


class _Say(Watch):
    def stepped(self, progress: Progress) -> None:
        sys.stdout.write(f"{progress.epoch} {progress.step}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    torch.set_num_threads(1)
    given: dict[str, Any] = {}
    if torch.distributed.is_torchelastic_launched():
        rank, processes = join_processes(own_device("cpu"))
        given = {"batches": Noise(3, rank, processes), "recipe": CALM}
    trainer(Path(sys.argv[1]), Path(sys.argv[2]), watch=_Say(), **given).run(resume=True)

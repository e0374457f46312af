"""A whole training: from data and weights to a folder that ``ram_core.trained`` and ``ram_core.runs`` read."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from ram_core.errors import TrainingError, TrainingStoppedError
from ram_core.runs import RUN, locked, read_run
from ram_core.trained import CARD, TAGS, WEIGHTS, write_tags
from ram_core.training.data import BadImages, ImageBatches, ValidationBatches, require_captions
from ram_core.training.data.batches import MOST_BAD, WORKERS
from ram_core.training.files import room
from ram_core.training.journal import Journal
from ram_core.training.processes import join_processes, own_device
from ram_core.training.recipes import RECIPES
from ram_core.training.teacher import load_teacher
from ram_core.training.trainer import Options, Trainer, Watch, require_steps
from ram_core.training.validation import mean_average_precision
from ram_core.transforms import SquashTransform

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ram_core.training.beginning import Beginning
    from ram_core.training.data import DataSet
    from ram_core.training.data.loader import Decode
    from ram_core.training.networks import Trainable
    from ram_core.training.recipes import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A training that is about to start, or to go on.

    Attributes:
        recipe: how it is trained.
        begin: the weights and the tags that it begins with.
        data: what it learns from.
        validation: images on which it is scored; None: none.
        folder: of the run.
        options: how to run the recipe.
        settings: everything that was chosen, for the record.
        device: where to train.
        workers: threads of each process that read and decode images.
        models_dir: with the teacher.
        most_bad: share of images that may be bad.
        decode: from the bytes of pictures to pixels; None: in this process.
    """

    recipe: Recipe
    begin: Beginning
    data: DataSet
    validation: DataSet | None
    folder: Path
    options: Options = field(default_factory=Options)
    settings: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    workers: int = WORKERS
    models_dir: Path | None = None
    most_bad: float = MOST_BAD
    decode: Decode | None = None

    def about(self, processes: int, steps: int) -> dict[str, Any]:
        """Return what ``run.json`` says."""
        return {
            "model": self.begin.model,
            "recipe": self.recipe.name,
            "parent": self.begin.parent,
            "data": self.data.describe(),
            "validation": None if self.validation is None else self.validation.describe(),
            "settings": self.settings,
            "changed": _changed(self.recipe),
            "recipe_settings": asdict(self.recipe),
            "options": asdict(self.options),
            "epochs": self.recipe.epochs,
            "steps": steps * self.recipe.epochs,
            "images_per_step": self.recipe.batch_size * self.options.accumulate * processes,
            "processes": processes,
            "versions": {"ramq": version("ramq"), "torch": torch.__version__, "python": platform.python_version()},
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with everything loaded.

    Attributes:
        plan: the plan.
        network: on its device.
        batches: of this process.
        validation: images to score on, as inference sees them.
        rank: number of this process.
        processes: how many there are.
    """

    plan: Plan
    network: Trainable
    batches: ImageBatches
    validation: ValidationBatches | None
    rank: int
    processes: int

    @property
    def device(self) -> torch.device:
        """Where it trains."""
        return next(self.network.parameters()).device

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self.batches.steps() // self.plan.options.accumulate

    def about(self) -> dict[str, Any]:
        """Return what ``run.json`` says."""
        return self.plan.about(self.processes, self.steps)


def prepare(plan: Plan) -> Prepared:
    """Load the network, the teacher and the data of a plan. Nothing is written.

    Raises:
        TrainingError: the data, the options or the device do not fit.
        CheckpointError: weights are missing, or do not fit.
        VocabularyError: the tags do not fit the weights.
        DeviceError: the device is not available.
    """
    device = own_device(plan.device)
    if plan.options.precision == "float16" and device.type != "cuda":
        raise TrainingError("float16 needs a GPU; use bfloat16 or float32")
    require_captions(plan.data, plan.begin.model)
    learns_from_clip = plan.begin.model != "tag2text"
    teacher = load_teacher(models_dir=plan.models_dir, device=device) if learns_from_clip else None
    network = plan.begin.network(
        seed=plan.options.seed,
        models_dir=plan.models_dir,
        dropout=plan.recipe.dropout,
        drop_path=plan.recipe.drop_path,
        image_size=plan.recipe.image_size,
        device=device,
    )
    rank, processes = join_processes(device)
    bad = BadImages(plan.folder)
    batches = ImageBatches(
        plan.data,
        plan.recipe,
        plan.begin.vocabulary,
        seed=plan.options.seed,
        rank=rank,
        processes=processes,
        workers=plan.workers,
        teacher=teacher,
        device=device,
        on_bad=bad,
        most_bad=plan.most_bad,
        decode=plan.decode,
    )
    require_steps(batches, plan.options)
    return Prepared(plan, network, batches, _validation(plan, device, bad), rank, processes)


def train(
    ready: Prepared,
    *,
    resume: bool = False,
    listen: Callable[[dict[str, Any]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Path:
    """Train to the end, and write the model with its card.

    Args:
        ready: the plan with everything loaded.
        resume: go on from the last state, if there is one.
        listen: is told what happens, as ``scalars.jsonl`` has it; in the first process only.
        should_stop: whether to stop after this step.

    Returns:
        The folder: it can be added to the models.

    Raises:
        TrainingStoppedError: it was asked to stop, and can be resumed.
        TrainingError: a loss is not finite, the disk is full, another process trains in the folder, ….
    """
    plan = ready.plan
    if ready.rank:
        _loop(ready, _Deputy(should_stop)).run(resume=resume)
        return plan.folder
    with locked(plan.folder):
        if not resume:
            if (plan.folder / RUN).exists():  # since this one was planned, another was begun and has ended
                raise TrainingError(f"{plan.folder} has a training already; resume it, or use another folder")
            with room(plan.folder):
                write_tags(plan.begin.vocabulary, plan.folder / TAGS)
            _write_json(plan.folder / RUN, ready.about())
        images = plan.recipe.batch_size * plan.options.accumulate * ready.processes
        journal = Journal(
            plan.folder, epochs=plan.recipe.epochs, images_per_step=images, listen=listen, should_stop=should_stop
        )
        try:
            checkpoint = _loop(ready, journal).run(resume=resume)
            with room(plan.folder):
                _finish(plan, checkpoint)
        except BaseException as error:
            journal.ended(error, stopped=isinstance(error, TrainingStoppedError | KeyboardInterrupt))
            raise
        journal.ended(None)
    return plan.folder


def _validation(plan: Plan, device: torch.device, bad: BadImages) -> ValidationBatches | None:
    if plan.validation is None:
        return None
    return ValidationBatches(
        plan.validation,
        plan.begin.vocabulary,
        batch_size=plan.recipe.batch_size,
        transform=SquashTransform(plan.recipe.image_size),
        workers=plan.workers,
        device=device,
        on_bad=bad,
        decode=plan.decode,
    )


class _Deputy(Watch):
    """Looks on in another process than the first, which writes."""

    def __init__(self, should_stop: Callable[[], bool] | None) -> None:
        self._should_stop = should_stop

    def wants_stop(self) -> bool:
        return self._should_stop is not None and self._should_stop()


def _loop(ready: Prepared, watch: Watch) -> Trainer:
    validation = ready.validation
    return Trainer(
        ready.network,
        ready.batches,
        ready.plan.recipe,
        ready.plan.folder,
        options=ready.plan.options,
        validate=None if validation is None else lambda network: mean_average_precision(network, validation),
        watch=watch,
        about=_same(ready.plan),
    )


def _same(plan: Plan) -> dict[str, str]:
    """Return what must be the same when the training goes on."""
    same = {"data": plan.data.describe()["sha256"], "parent": plan.begin.parent["sha256"]}
    return same if plan.validation is None else same | {"validation": plan.validation.describe()["sha256"]}


def _finish(plan: Plan, checkpoint: Path) -> None:
    """Write the model and its card."""
    weights = plan.folder / WEIGHTS
    partial = weights.with_name(f"{WEIGHTS}.part")
    partial.unlink(missing_ok=True)
    try:
        os.link(checkpoint, partial)
    except OSError:  # a file system without links
        shutil.copyfile(checkpoint, partial)
    partial.replace(weights)
    with weights.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    about, run = json.loads((plan.folder / RUN).read_text(encoding="utf-8")), read_run(plan.folder)
    learned = (score for score in run.scores if score.epochs)
    best = max(learned, key=lambda score: score.validation_map, default=None)
    card = {
        **about,
        "sha256": digest,
        "vocabulary": {"name": plan.begin.vocabulary.name, "sha256": plan.begin.vocabulary.sha256},
        "epoch": plan.recipe.epochs if best is None else best.epochs,
        "validation_map": None if best is None else best.validation_map,
        "metrics": {
            "scores": [asdict(score) for score in run.scores],
            "losses": None if not run.points else dict(run.points[-1].losses),
        },
        "bad_images": run.bad_images,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _write_json(plan.folder / CARD, card)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.part")
    with room(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(path)


def _changed(recipe: Recipe) -> dict[str, list[Any]]:
    """Return the settings that differ from the recipe of this name: the official value, and this one."""
    official = RECIPES[recipe.name]
    pairs = {each.name: (getattr(official, each.name), getattr(recipe, each.name)) for each in fields(recipe)}
    return {
        name: [asdict(value) if hasattr(value, "__dataclass_fields__") else value for value in pair]
        for name, pair in pairs.items()
        if pair[0] != pair[1]
    }

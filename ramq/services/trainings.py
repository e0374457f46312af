"""Trainings: start them, go on with them, and show them. Needs no database, unless the data is an archive."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ram_core.errors import ModelError, TrainingError
from ram_core.runs import RUN, read_about, read_run, runs
from ram_core.trained import KINDS, TAGS, read_tags
from storage.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ram_core.runs import RunView
    from ram_core.training.beginning import Beginning
    from ram_core.training.data import DataSet
    from ram_core.training.data.loader import Decode
    from ram_core.training.recipes import Recipe
    from ram_core.training.run import Plan
    from ram_core.vocabulary import TagVocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person chose for a training, and what must not change when it goes on. None: the default.

    Attributes:
        recipe: ``pretrain`` or ``finetune``.
        dataset: what it learns from.
        images: the folder that paths in the data begin in.
        model: ``ram``, ``ram_plus`` or ``tag2text``.
        start: the weights to begin with (``ram_core.training.beginning``).
        vocabulary: a file, or a model, with the tags.
        validate: images to score on.
        epochs: times that every image is seen.
        batch: images of a batch, in each process.
        learning_rate: the highest.
        size: side of the images, in pixels.
        accumulate: batches of a step.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        seed: of everything random.
    """

    recipe: str
    dataset: tuple[str, ...] | None = None
    images: str | None = None
    model: str | None = None
    start: str | None = None
    vocabulary: str | None = None
    validate: tuple[str, ...] | None = None
    epochs: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    size: int | None = None
    accumulate: int | None = None
    precision: str | None = None
    seed: int | None = None

    def settings(self) -> dict[str, Any]:
        """Return the choices under the names of the command's options, as JSON has them."""
        chosen = {
            "recipe": self.recipe,
            "dataset": self.dataset and [_absolute(each) for each in self.dataset],
            "images": self.images and _absolute(self.images),
            "model": self.model,
            "from": self.start if self.start in {*KINDS, "new"} else self.start and _absolute(self.start),
            "vocabulary": self.vocabulary and _absolute(self.vocabulary),
            "validate": self.validate and [_absolute(each) for each in self.validate],
            "epochs": self.epochs,
            "batch": self.batch,
            "learning-rate": self.learning_rate,
            "size": self.size,
            "accumulate": self.accumulate,
            "precision": self.precision,
            "seed": self.seed,
        }
        return {name: value for name, value in chosen.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and how a training runs. All of it may change when it goes on.

    Attributes:
        models_dir: folder of models.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``auto``.
        workers: threads of each process that read and decode images.
        save_every: steps between two saved states; None: the default.
        keep: states that are kept; None: the default.
        most_bad: share of the images of an epoch that may be bad; None: the default.
        recompute: whether activations are computed again: less memory, more time.
    """

    models_dir: Path
    device: str = "auto"
    workers: int = 4
    save_every: int | None = None
    keep: int | None = None
    most_bad: float | None = None
    recompute: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Options of the loop."""
        chosen = {"save_every": self.save_every, "keep": self.keep}
        return {name: value for name, value in chosen.items() if value is not None} | {"recompute": self.recompute}


@dataclass(slots=True)
class Trainings:
    """Trainings in a folder.

    Args:
        folder: where runs are by default.
        vocabulary_of: reads the vocabulary of a file or model.
        open_data: opens data: sources, the folder of their pictures, and the tags.
        decode: from the bytes of pictures to pixels; None: in this process.
    """

    folder: Path
    vocabulary_of: Callable[[str], TagVocabulary] | None = None
    open_data: Callable[[tuple[str, ...], str | None, TagVocabulary], DataSet] | None = None
    decode: Decode | None = None
    _now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    @property
    def are_there(self) -> bool:
        """Whether there are any."""
        return next(self.folder.glob(f"*/{RUN}"), None) is not None

    def list(self) -> list[RunView]:
        """Return the trainings, the last one first."""
        return runs(self.folder)

    def get(self, name: str) -> RunView:
        """Return a training by the name of its folder. Raises ``NotFoundError``."""
        if name in {"", ".", ".."} or Path(name).name != name or "\0" in name or not os.path.isdir(self.folder / name):  # noqa: PTH112  (Path.is_dir raises for long names)
            raise NotFoundError(f"there is no training {name!r}")
        try:
            return read_run(self.folder / name)
        except TrainingError as error:
            raise NotFoundError(f"there is no training {name!r}") from error

    def new(self, asked: Asked, place: Place, out: Path | None = None) -> Plan:
        """Plan a training that begins.

        Args:
            asked: what it shall be.
            place: where and how.
            out: the folder of the run; None: a new one among the others.

        Raises:
            UsageError: something is missing or does not fit; the message says what.
        """
        if not asked.dataset:
            raise UsageError("nothing to learn from; give --dataset PATH")
        if out is not None and (out / RUN).exists():
            raise UsageError(f"{out} has a training already; go on with it (--resume), or give another --out")
        from torch.distributed import is_torchelastic_launched  # noqa: PLC0415  (torch)

        from ram_core.training.beginning import NEW, beginning  # noqa: PLC0415
        from ram_core.training.recipes import recipe as recipe_named  # noqa: PLC0415

        if out is None and is_torchelastic_launched():
            raise UsageError("several processes share one folder; name it: --out FOLDER")
        with usage():
            official = recipe_named(asked.recipe)
            start = asked.start or (NEW if asked.recipe == "pretrain" else asked.model or "ram_plus")
            begin = beginning(
                start, asked.model, self._vocabulary(asked), seed=asked.seed or 0, models_dir=place.models_dir
            )
            stamp = self._now().strftime("%Y%m%d-%H%M%S")
            folder = out or self.folder / f"{asked.recipe}-{begin.model}-{stamp}"
            asked = replace(asked, model=begin.model, start=start)
            return self._plan(asked, place, begin, official, folder)

    def resumed(self, asked: Asked, place: Place, out: Path) -> Plan:
        """Plan to go on with a training. What is not given is as it was.

        Raises:
            UsageError: there is no training, or it had other settings; the message names them.
        """
        from ram_core.training.beginning import Beginning  # noqa: PLC0415  (torch)
        from ram_core.training.recipes import recipe as recipe_named  # noqa: PLC0415
        from ram_core.training.states import States  # noqa: PLC0415

        with usage():
            about = read_about(out)
            stored = about.settings
            _refuse_others(out, asked.settings(), stored)
            kept = _asked(out, stored)
            parent = about.parent.model_dump()
            path = None if about.parent.path is None else Path(about.parent.path)
            states = States(out / "states", 1)
            if states.newest() is None:
                states.refuse_lost()
            if path is not None and not path.is_file():  # the weights are in the states too
                path = states.newest() or path
            begin = Beginning(about.model, path, read_tags(out / TAGS), parent)
            return self._plan(kept, place, begin, recipe_named(kept.recipe), out)

    def _vocabulary(self, asked: Asked) -> TagVocabulary | None:
        if asked.vocabulary is None:
            return None
        assert self.vocabulary_of is not None
        return self.vocabulary_of(asked.vocabulary)

    def _plan(self, asked: Asked, place: Place, begin: Beginning, official: Recipe, folder: Path) -> Plan:
        from ram_core.training.run import Plan  # noqa: PLC0415
        from ram_core.training.trainer import Options  # noqa: PLC0415

        recipe = changed(official, asked)
        if begin.model == "ram_plus" and recipe.batch_size < 2:
            raise UsageError("ram_plus compares the captions of a batch with each other; give --batch 2 or more")
        options = Options(
            seed=asked.seed or 0,
            precision=asked.precision or "float32",
            accumulate=asked.accumulate or 1,
            **place.options,
        )
        assert self.open_data is not None
        data = self.open_data(asked.dataset or (), asked.images, begin.vocabulary)
        validation = self.open_data(asked.validate, asked.images, begin.vocabulary) if asked.validate else None
        settings = {
            **asked.settings(),
            "epochs": recipe.epochs,
            "batch": recipe.batch_size,
            "learning-rate": recipe.schedule.rate,
            "size": recipe.image_size,
            "accumulate": options.accumulate,
            "precision": options.precision,
            "seed": options.seed,
        }
        return Plan(
            recipe=recipe,
            begin=begin,
            data=data,
            validation=validation,
            folder=folder,
            options=options,
            settings=settings,
            device=place.device,
            workers=place.workers,
            models_dir=place.models_dir,
            decode=self.decode,
            **({} if place.most_bad is None else {"most_bad": place.most_bad}),
        )


def changed(recipe: Recipe, asked: Asked) -> Recipe:
    """Return a recipe with what was chosen. Raises ``TrainingError``."""
    from ram_core.training.recipes import CLIP_SIZE  # noqa: PLC0415

    other: dict[str, Any] = {}
    if asked.epochs is not None:
        other["epochs"] = asked.epochs
    if asked.batch is not None:
        other["batch_size"] = asked.batch
    if asked.learning_rate is not None:
        other["schedule"] = replace(recipe.schedule, rate=asked.learning_rate)
    if asked.size is not None:
        other["image_size"] = asked.size
        other["augmentation"] = replace(recipe.augmentation, size=asked.size)
        other["own_clip_view"] = recipe.own_clip_view or asked.size != CLIP_SIZE
    return replace(recipe, **other)


def _refuse_others(folder: Path, given: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Raise ``UsageError`` if settings are given that a training does not have."""
    others = [
        f"{'the recipe' if name == 'recipe' else f'--{name}'} is {_said(value)}, there {_said(stored.get(name))}"
        for name, value in given.items()
        if value != stored.get(name)
    ]
    if others:
        raise UsageError(
            f"{folder} has a training with other settings: {'; '.join(others)}. Leave these options out, or give "
            "another --out"
        )


def _asked(folder: Path, stored: Mapping[str, Any]) -> Asked:
    """Return what was chosen for a training, from its settings. Raises ``TrainingError``."""
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415

    from ram_core.run_files import first_fault  # noqa: PLC0415

    named = {{"from": "start"}.get(name, name.replace("-", "_")): value for name, value in stored.items()}
    try:
        asked = TypeAdapter(Asked).validate_python(named)
    except ValidationError as error:
        raise TrainingError(f"{folder / RUN} is damaged ({first_fault(error)}); use another folder") from error
    if not asked.dataset:
        raise TrainingError(f"{folder / RUN} is damaged (it names no data); use another folder")
    return asked


def _said(value: Any) -> str:
    if value is None:
        return "not given"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _absolute(text: str) -> str:
    """Return the whole path of a file or folder that is there, so that it can be found from another folder."""
    if text.startswith("archive:"):  # a query
        return text
    return str(Path(text).absolute()) if os.path.exists(text) else text  # noqa: PTH110  (Path.exists raises for long names)


@contextmanager
def usage() -> Iterator[None]:
    """Report errors of models and trainings as usage errors."""
    try:
        yield
    except ModelError as error:
        raise UsageError(str(error)) from error

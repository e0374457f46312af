"""Trainings as their folders tell of them, while they run and afterwards. Needs no torch.

``ramq train`` writes into the folder of a run:

* ``run.json``: what is trained, from what, with which settings.
* ``scalars.jsonl``: one line of JSON for some steps (``step``), each score (``score``), and its beginnings and ends
  (``state``).
* ``lock``: locked while a process trains.
* ``tags.json``, ``states/``, ``last.pth``, ``best.pth``, ``bad.jsonl``; at the end ``model.pth`` and ``model.json``.
"""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ram_core.errors import TrainingError
from ram_core.run_files import (
    About,
    Line,
    ScoreLine,
    StateLine,
    StepLine,
    about_in,
    line_in,
    open_regular,
    read_regular,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

RUN, SCALARS, LOCK, BAD = "run.json", "scalars.jsonl", "lock", "bad.jsonl"
RUNNING, FINISHED, STOPPED, FAILED, INTERRUPTED = "running", "finished", "stopped", "failed", "interrupted"
MOST_POINTS = 300  # of a curve


@dataclass(frozen=True, slots=True)
class Point:
    """What some steps did on average.

    Attributes:
        step: number of steps done, over all epochs.
        learning_rate: of the last of these steps.
        losses: mean of each.
    """

    step: int
    learning_rate: float
    losses: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Score:
    """The mean average precision on the validation images after some epochs; 0 epochs: before the first step."""

    epochs: int
    validation_map: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A training.

    Attributes:
        name: of its folder.
        folder: its path.
        state: ``running``, ``finished``, ``stopped`` (on request), ``failed``, or ``interrupted`` (it was
            killed, or its machine was).
        note: why it failed or stopped.
        model: ``ram``, ``ram_plus`` or ``tag2text``.
        recipe: name of the recipe.
        parent: the weights that it began with, for people.
        data: what the data set has: ``name``, ``images``, ``captions``, ``tags``.
        settings: every setting of the run.
        epochs: of the whole run.
        epoch: the current one, from 1.
        steps: of the whole run.
        step: steps done.
        images_per_second: lately, in all processes together; None if it is not known yet.
        seconds_left: until the end, without validation; None if it is not known, or it does not run.
        points: losses and learning rates, at most 300.
        scores: on the validation images.
        bad_images: images that could not be read.
        started_at: when it began.
        updated_at: when it last wrote.
    """

    name: str
    folder: str
    state: str
    note: str | None
    model: str
    recipe: str
    parent: str
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    epochs: int
    epoch: int
    steps: int
    step: int
    images_per_second: float | None
    seconds_left: float | None
    points: Sequence[Point] = field(default_factory=tuple)
    scores: Sequence[Score] = field(default_factory=tuple)
    bad_images: int = 0
    started_at: datetime
    updated_at: datetime


def runs(folder: Path | str) -> list[RunView]:
    """Return the trainings in a folder, the last one first. What is none, or cannot be read, is passed over."""
    found = []
    for each in Path(folder).glob(f"*/{RUN}"):
        try:
            found.append(read_run(each.parent))
        except TrainingError:
            continue
    return sorted(found, key=lambda run: run.started_at, reverse=True)


def read_run(folder: Path | str) -> RunView:
    """Return one training. Raises ``TrainingError`` if the folder has none that can be read."""
    folder = Path(folder)
    about, lines = read_about(folder), [line for _, line in read_scalars(folder)]
    try:
        scalars = folder / SCALARS
        updated = datetime.fromtimestamp((scalars if scalars.is_file() else folder / RUN).stat().st_mtime, UTC)
        bad_images = _count_lines(folder / BAD)
    except (OSError, ValueError, OverflowError) as error:
        raise TrainingError(f"{folder} has a training that cannot be read ({error})") from error
    steps = [line for line in lines if isinstance(line, StepLine)]
    states = [line for line in lines if isinstance(line, StateLine)]
    last = steps[-1] if steps else None
    state = states[-1].state if states else RUNNING
    if state == RUNNING and not is_locked(folder):
        state = INTERRUPTED
    return RunView(
        name=_printable(folder.name),
        folder=_printable(str(folder)),
        state=state,
        note=states[-1].note if states else None,
        model=about.model,
        recipe=about.recipe,
        parent=about.parent.name,
        data=about.data.model_dump(),
        settings=about.settings,
        epochs=about.epochs,
        epoch=last.epoch if last else 1,
        steps=about.steps,
        step=last.step if last else 0,
        images_per_second=last.images_per_second if last else None,
        seconds_left=last.seconds_left if last and state == RUNNING else None,
        points=_thinned([Point(each.step, each.learning_rate, each.losses) for each in steps]),
        scores=[Score(each.epochs, each.validation_map) for each in lines if isinstance(each, ScoreLine)],
        bad_images=bad_images,
        started_at=about.started_at,
        updated_at=updated,
    )


def read_about(folder: Path) -> About:
    """Return what ``run.json`` says. Raises ``TrainingError``."""
    path = folder / RUN
    try:
        return about_in(read_regular(path))
    except FileNotFoundError as error:
        raise TrainingError(f"{folder} has no training; start one without --resume") from error
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read ({error}); use another folder") from error


def read_scalars(folder: Path) -> list[tuple[bytes, Line]]:
    """Return the lines of ``scalars.jsonl``, as they stand there and as what they say.

    Left out is what is no such line: one that was cut short when its process was killed, for example.

    Raises:
        TrainingError: the file cannot be read.
    """
    try:
        texts = read_regular(folder / SCALARS).split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TrainingError(f"{folder / SCALARS} cannot be read: {error.strerror}") from error
    return [(text, line) for text in texts if text and (line := line_in(text)) is not None]


def is_locked(folder: Path) -> bool:
    """Return whether a process trains in this folder."""
    try:
        with open_regular(folder / LOCK) as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, TrainingError):  # there is no such file, or it is on a disk without locks
        return False
    return False


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made. The kernel releases it with the process.

    Raises:
        TrainingError: another process holds it, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = open_regular(folder / LOCK, "ab")
    except OSError as error:
        raise TrainingError(f"{folder} cannot be written to: {error.strerror}; use another folder") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(f"another process trains in {folder}; use another folder, or wait for it") from error
        except OSError as error:
            raise TrainingError(f"{folder} is on a disk without locks ({error.strerror}); use another one") from error
        yield


def _thinned(points: list[Point]) -> list[Point]:
    """Return at most ``MOST_POINTS`` of them, evenly, the last one included."""
    if len(points) <= MOST_POINTS:
        return points
    return [points[(number + 1) * len(points) // MOST_POINTS - 1] for number in range(MOST_POINTS)]


def _count_lines(path: Path) -> int:
    try:
        return read_regular(path).count(b"\n")
    except FileNotFoundError:
        return 0


def _printable(name: str) -> str:
    """Return a name in valid Unicode: names of folders are bytes."""
    return name.encode("utf-8", "replace").decode()

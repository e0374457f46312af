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
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ram_core.errors import TrainingError

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
    """Return the trainings in a folder, the last one first. What is no training is passed over."""
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
    about = read_about(folder)
    entries = read_scalars(folder)
    by_kind: dict[str, list[dict[str, Any]]] = {"step": [], "score": [], "state": []}
    for entry in entries:
        by_kind.get(str(entry.get("kind")), []).append(entry)
    try:
        return _view(folder, about, by_kind)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise TrainingError(f"{folder} has a training that cannot be read ({error!r})") from error


def _view(folder: Path, about: dict[str, Any], by_kind: dict[str, list[dict[str, Any]]]) -> RunView:
    last = by_kind["step"][-1] if by_kind["step"] else {}
    ended = by_kind["state"][-1] if by_kind["state"] else {}
    state = str(ended.get("state", RUNNING))
    if state == RUNNING and not is_locked(folder):
        state = INTERRUPTED
    scalars = folder / SCALARS
    return RunView(
        name=folder.name,
        folder=str(folder),
        state=state,
        note=ended.get("note"),
        model=about["model"],
        recipe=about["recipe"],
        parent=about["parent"]["name"],
        data=about["data"],
        settings=about["settings"],
        epochs=about["epochs"],
        epoch=last.get("epoch", 1),
        steps=about["steps"],
        step=last.get("step", 0),
        images_per_second=last.get("images_per_second"),
        seconds_left=last.get("seconds_left") if state == RUNNING else None,
        points=_thinned([Point(each["step"], each["learning_rate"], each["losses"]) for each in by_kind["step"]]),
        scores=[Score(each["epochs"], each["validation_map"]) for each in by_kind["score"]],
        bad_images=_lines(folder / BAD),
        started_at=datetime.fromisoformat(about["started_at"]),
        updated_at=datetime.fromtimestamp((scalars if scalars.is_file() else folder / RUN).stat().st_mtime, UTC),
    )


def read_about(folder: Path) -> dict[str, Any]:
    """Return what ``run.json`` says. Raises ``TrainingError``."""
    path = folder / RUN
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TrainingError(f"{folder} has no training; start one without --resume") from error
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} is damaged ({error}); use another folder") from error
    if not isinstance(about, dict):
        raise TrainingError(f"{path} is damaged; use another folder")
    return about


def read_scalars(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of ``scalars.jsonl``. One that was cut short when its process was killed is left out."""
    try:
        lines = (folder / SCALARS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TrainingError(f"{folder / SCALARS} cannot be read: {error.strerror}") from error
    entries = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def is_locked(folder: Path) -> bool:
    """Return whether a process trains in this folder."""
    try:
        with (folder / LOCK).open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no such file, or it is on a disk without locks
        return False
    return False


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder. The kernel releases it with the process. Raises ``TrainingError`` if it is held."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(f"another process trains in {folder}; use another folder, or wait for it") from error
        yield


def _thinned(points: list[Point]) -> list[Point]:
    """Return at most ``MOST_POINTS`` of them, evenly, the last one included."""
    if len(points) <= MOST_POINTS:
        return points
    return [points[(number + 1) * len(points) // MOST_POINTS - 1] for number in range(MOST_POINTS)]


def _lines(path: Path) -> int:
    try:
        with path.open("rb") as stream:
            return sum(1 for _ in stream)
    except FileNotFoundError:
        return 0

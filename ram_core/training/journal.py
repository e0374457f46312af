"""What a training writes about itself: ``scalars.jsonl``, and the same for TensorBoard if it is installed.

One line has the means of some steps, so that an epoch has at most 200 lines. ``ram_core.runs`` reads them.
"""

from __future__ import annotations

import json
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from ram_core.run_files import MAX_NOTE, ScoreLine, StepLine
from ram_core.runs import FAILED, FINISHED, RUNNING, SCALARS, STOPPED, read_scalars
from ram_core.training.files import room
from ram_core.training.trainer import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from ram_core.run_files import Line
    from ram_core.training.trainer import Progress

LINES_OF_AN_EPOCH = 200
_TIMED_STEPS = 20  # over which the rate is measured


class Journal(Watch):
    """Writes what happens in a training.

    Args:
        folder: of the run.
        epochs: of the whole run.
        images_per_step: in all processes together.
        listen: is called with each step, also those that are not written, and with whatever else is written.
        should_stop: whether the training shall stop after this step.
    """

    def __init__(
        self,
        folder: Path,
        *,
        epochs: int,
        images_per_step: int,
        listen: Callable[[dict[str, Any]], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self._folder, self._epochs, self._images = folder, epochs, images_per_step
        self._listen, self._should_stop = listen or _ignore, should_stop or _never
        self._sums: dict[str, float] = {}
        self._summed = 0
        self._times: deque[float] = deque(maxlen=_TIMED_STEPS + 1)
        self._board = _Board(folder)

    @override
    def began(self, steps_done: int, epochs_done: int) -> None:
        """Begin, or go on: lines of steps that were not saved, and will be made again, are removed."""
        kept = [text + b"\n" for text, line in read_scalars(self._folder) if _is_before(line, steps_done, epochs_done)]
        partial = self._folder / f"{SCALARS}.part"
        with room(self._folder):
            partial.write_bytes(b"".join(kept))
            partial.replace(self._folder / SCALARS)
            self._board.open(steps_done)
        self._write({"kind": "state", "state": RUNNING, "step": steps_done})

    @override
    def stepped(self, progress: Progress) -> None:
        """Add a step to the means, and write them at the end of a part of the epoch."""
        self._times.append(time.monotonic())
        for name, value in progress.losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._summed += 1
        done, total = progress.epoch * progress.steps + progress.step + 1, self._epochs * progress.steps
        entry: dict[str, Any] = {
            "kind": "step",
            "epoch": progress.epoch + 1,
            "epochs": self._epochs,
            "step": done,
            "steps": total,
            "learning_rate": progress.learning_rate,
            "losses": {name: value / self._summed for name, value in self._sums.items()},
            **self._pace(total - done),
        }
        is_written = self._is_last_of_part(progress)
        if is_written:
            self._sums, self._summed = {}, 0
            self._write(entry)
            self._board.step(entry)
        else:
            self._listen(entry)

    @override
    def scored(self, epochs: int, score: float) -> None:
        """Write a score. The time that it took does not count as that of steps."""
        self._times.clear()
        self._write({"kind": "score", "epochs": epochs, "validation_map": score})
        self._board.score(epochs, score)

    @override
    def wants_stop(self) -> bool:
        """Return whether the training shall stop after this step."""
        return self._should_stop()

    def ended(self, error: BaseException | None, *, stopped: bool = False) -> None:
        """Write how the training ended."""
        state = FINISHED if error is None else STOPPED if stopped else FAILED
        note = None if error is None else str(error)[:MAX_NOTE].encode("utf-8", "replace").decode()
        self._write({"kind": "state", "state": state, "note": note})
        self._board.close()

    def _pace(self, steps_left: int) -> dict[str, float | None]:
        seconds = self._times[-1] - self._times[0]
        if seconds <= 0:  # one step says nothing: the first one of a process is slow
            return {"images_per_second": None, "seconds_left": None}
        each = seconds / (len(self._times) - 1)
        return {"images_per_second": self._images / each, "seconds_left": each * steps_left}

    @staticmethod
    def _is_last_of_part(progress: Progress) -> bool:
        length = -(-progress.steps // LINES_OF_AN_EPOCH)
        return (progress.step + 1) % length == 0 or progress.step + 1 == progress.steps

    def _write(self, entry: dict[str, Any]) -> None:
        entry = {**entry, "at": datetime.now(UTC).isoformat(timespec="milliseconds")}
        with room(self._folder), (self._folder / SCALARS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        self._listen(entry)


class _Board:
    """The same numbers for TensorBoard, in ``tensorboard/``; nothing if it is not installed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self._steps = 0

    def open(self, steps_done: int) -> None:
        module = board_module()
        if module is not None:
            self._steps = steps_done
            self._writer = module.SummaryWriter(str(self._folder / "tensorboard"), purge_step=steps_done + 1)

    def step(self, entry: dict[str, Any]) -> None:
        self._steps = entry["step"]
        values = {f"loss/{name}": value for name, value in entry["losses"].items()}
        values["learning_rate"] = entry["learning_rate"]
        if entry["images_per_second"] is not None:
            values["images_per_second"] = entry["images_per_second"]
        self._add(values)

    def score(self, epochs: int, score: float) -> None:
        self._add({"validation/map": score, "validation/epochs": epochs})

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _add(self, values: dict[str, float]) -> None:
        if self._writer is None:
            return
        with room(self._folder):
            for name, value in values.items():
                self._writer.add_scalar(name, value, self._steps)
            self._writer.flush()


def board_module() -> ModuleType | None:
    """Return torch's module for TensorBoard; None if TensorBoard is not installed."""
    try:
        from torch.utils import tensorboard  # noqa: PLC0415  (an extra: pip install 'ramq[train]')
    except ImportError:
        return None
    return tensorboard


def _is_before(line: Line, steps_done: int, epochs_done: int) -> bool:
    if isinstance(line, StepLine):
        return line.step <= steps_done
    if isinstance(line, ScoreLine):  # before the first step, the score before learning is made again
        return steps_done > 0 and line.epochs <= epochs_done
    return True


def _ignore(_: dict[str, Any]) -> None:
    return None


def _never() -> bool:
    return False

"""States of a training in a folder: each complete, the last few kept."""

from __future__ import annotations

import pickle
import re
from typing import TYPE_CHECKING, Any

import torch

from ram_core.errors import TrainingError
from ram_core.training.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"step-(\d+)\.pt")


class States:
    """The states in a folder.

    Args:
        folder: made when the first one is saved.
        keep: how many are kept.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a state, then delete those that are too old.

        Later ones go too: they could not be read, or the steps up to them are made again.
        """
        self.folder.mkdir(exist_ok=True)  # but not the folder of the run, which somebody may have deleted
        mine = self.folder / f"step-{step:09}.pt"
        write_whole(mine, state)
        paths = self._paths()
        at = paths.index(mine)
        for path in (*paths[at + 1 :], *paths[: at + 1][: -self.keep]):
            path.unlink()

    def sweep(self) -> None:
        """Delete what a process left of a state when it was killed. Only for the one that holds the folder's lock."""
        for path in self.folder.glob("step-*.pt.part"):
            path.unlink(missing_ok=True)

    def refuse_lost(self) -> None:
        """Raise ``TrainingError`` if a training without a state that can be read has lost what it had.

        One that ended before it saved its first state has lost nothing: it may begin again.
        """
        last = self.folder.parent / "last.pth"
        if self._paths() or last.exists():
            raise TrainingError(
                f"{self.folder} has no state that can be read, although the training saved some; bring them back from "
                "a copy, or begin another training in another folder" + (f", --from {last}" if last.exists() else "")
            )

    def newest(self) -> Path | None:
        """Return the file of the last state; None if there is none."""
        paths = self._paths()
        return paths[-1] if paths else None

    def last(self) -> dict[str, Any] | None:
        """Return the last state that can be read; None if there is none.

        States appear complete or not at all, but disks fail: a damaged one is passed over for the one before.
        """
        for path in reversed(self._paths()):
            try:
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
                continue
            return state
        return None

    def _paths(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(each for each in self.folder.iterdir() if _NAME.fullmatch(each.name))

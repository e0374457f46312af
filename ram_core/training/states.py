"""States of a training in a folder: each complete, the last few kept."""

from __future__ import annotations

import pickle
import re
from typing import TYPE_CHECKING, Any

import torch

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
        """Write a state, then delete those that are too old."""
        write_whole(self.folder / f"step-{step:09}.pt", state)
        for path in self._paths()[: -self.keep]:
            path.unlink()

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

"""Scores of a benchmark's images on disk. An interrupted run can continue from them."""

from __future__ import annotations

import json
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from ram_core.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


class RowState(IntEnum):
    """State of an image. Rows that could not be read are tried again by the next run."""

    PENDING = 0
    SCORED = 1
    UNREADABLE = 2


class ScoreTable:
    """A folder with ``scores.npy`` (N, C) float32, ``rows.npy`` (N,) and ``run.json``, which describes the run.

    Args:
        folder: created if needed.
        shape: (N, C).
        made_by: what the scores depend on; a folder with scores of another run is rejected.

    Raises:
        ModelError: the folder holds scores of another run, or cannot be read.
    """

    def __init__(self, folder: Path, shape: tuple[int, int], made_by: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        description = folder / "run.json"
        is_new = not description.exists()
        if not is_new:
            self._check(description, made_by)
        self.scores = self._open("scores.npy", shape, np.float32, is_new=is_new)
        self._rows = self._open("rows.npy", shape[:1], np.uint8, is_new=is_new)
        if is_new:  # written last: an interrupted start then counts as no start
            description.write_text(json.dumps(made_by, indent=2, sort_keys=True), encoding="utf-8")

    def pending(self) -> NDArray[np.intp]:
        """Return the rows that still have to be scored, ascending."""
        return np.flatnonzero(self._rows != RowState.SCORED)

    def scored(self) -> NDArray[np.intp]:
        """Return the rows that have scores, ascending."""
        return np.flatnonzero(self._rows == RowState.SCORED)

    def store(self, rows: Sequence[int], scores: NDArray[np.float32], unreadable: Sequence[int]) -> None:
        """Store a batch. The scores are flushed to disk before their rows are marked."""
        self.scores[rows] = scores
        self.scores.flush()
        self._rows[rows] = RowState.SCORED
        self._rows[unreadable] = RowState.UNREADABLE
        self._rows.flush()

    def _open(self, name: str, shape: tuple[int, ...], dtype: type[np.generic], *, is_new: bool) -> np.memmap[Any, Any]:
        path = self.folder / name
        try:
            if is_new:
                return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
            np.load(path, mmap_mode="r")  # the writable mode would extend a truncated file
            return np.lib.format.open_memmap(path, mode="r+")
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} is damaged ({error}); delete {self.folder} or choose another folder") from error

    def _check(self, description: Path, made_by: Mapping[str, Any]) -> None:
        try:
            before = json.loads(description.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelError(f"{description} is damaged; delete {self.folder} or choose another folder") from error
        differing = [key for key in made_by if before.get(key) != made_by[key]]
        if differing:
            raise ModelError(
                f"{self.folder} contains scores of another run (differs in {', '.join(differing)}); "
                "delete it or choose another folder"
            )

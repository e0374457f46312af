"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch

from ram_core.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator


def write_whole(path: Path | str, content: Any) -> None:
    """Write ``content`` with ``torch.save``, so that a crash or a full disk leaves the previous file as it was."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("wb") as stream:
            _save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def room(folder: Path) -> Iterator[None]:
    """Say so in one line if what is written within cannot be. Raises ``TrainingError``."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise TrainingError(
                f"no space left for the training in {folder}; make room and resume: the last state is complete"
            ) from error
        if not folder.is_dir():
            raise TrainingError(
                f"{folder}, the folder of the training, is gone; begin again, in a folder that stays"
            ) from error
        raise TrainingError(
            f"{error.filename or folder} cannot be written to: {error.strerror or error}; mend that and resume"
        ) from error


class _Stream:
    """Remembers why it could not be written to: torch hides what the system said behind errors of its own."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._stream.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self._stream.flush()


def _save(content: Any, stream: IO[bytes]) -> None:
    kept = _Stream(stream)
    try:
        torch.save(content, kept)  # type: ignore[arg-type]  # it writes to whatever can be written to
    except RuntimeError as error:
        if kept.error is not None:
            raise kept.error from error
        raise

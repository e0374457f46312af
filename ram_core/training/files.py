"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
            torch.save(content, stream)
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
    """Say so if there is no space left for what is written within. Raises ``TrainingError``."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
        if full or "PytorchStreamWriter" in str(error):  # torch hides what the system said
            raise TrainingError(
                f"no space left for the training in {folder}; make room and resume: the last state is complete"
            ) from error
        raise

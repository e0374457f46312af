"""Files that appear complete or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


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

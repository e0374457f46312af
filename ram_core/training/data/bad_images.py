"""The list of images that could not be read, in the folder of a training."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

from ram_core.errors import TrainingError
from ram_core.runs import BAD
from ram_core.training.files import room


class BadImages:
    """A file of JSON lines with the ``name`` of each bad image, once, and the ``reason``.

    Several processes, and a training that is resumed, may write to the same file.

    Args:
        folder: where the file, ``bad.jsonl``, is made with the first bad image.
    """

    def __init__(self, folder: Path | str) -> None:
        self.path = Path(folder) / BAD
        self._names: set[str] = set()
        self._read_bytes = 0

    def __call__(self, name: str, reason: str) -> None:
        """Add an image, unless it is listed."""
        if name in self._names:
            return
        with room(self.path.parent):
            self._add(name, reason)

    def _add(self, name: str, reason: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
            file.seek(self._read_bytes)
            more = file.read()
            whole = more.rfind(b"\n") + 1  # a process that was killed may have left a part of a line
            file.seek(file.truncate(self._read_bytes + whole))
            for line in more[:whole].splitlines():
                self._learn(line)
            if name not in self._names:
                file.write(json.dumps({"name": name, "reason": reason}).encode() + b"\n")
                self._names.add(name)
            file.flush()
            self._read_bytes = file.tell()

    def _learn(self, line: bytes) -> None:
        try:
            self._names.add(json.loads(line)["name"])
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"{self.path} is no list of bad images; delete it, or use another folder for the training"
            ) from error

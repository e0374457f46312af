"""The list of images that could not be read, in the folder of a training."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

FILE = "bad.jsonl"


class BadImages:
    """A file of JSON lines with the ``name`` of each bad image, once, and the ``reason``.

    Several processes, and a training that is resumed, may write to the same file.

    Args:
        path: the file, or the folder in which it is ``bad.jsonl``. It is made with the first bad image.
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        self.path = path if path.suffix == ".jsonl" else path / FILE
        self._names: set[str] = set()
        self._read_bytes = 0

    def __call__(self, name: str, reason: str) -> None:
        """Add an image, unless it is listed."""
        if name in self._names:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
            file.seek(self._read_bytes)
            for line in file.read().splitlines():
                self._learn(line)
            if name not in self._names:
                said = json.dumps({"name": name, "reason": reason}).encode()
                file.seek(0, 2)
                file.write(said + b"\n")
                self._names.add(name)
            file.flush()
            self._read_bytes = file.tell()

    def _learn(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
        except ValueError:  # cut short when its process was killed
            return
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            self._names.add(entry["name"])

"""Small copies of pictures, made once and kept on disk within a bound."""

from __future__ import annotations

import hashlib
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

SIZES = (160, 320, 640, 1280)
"""Longest sides that are kept, in pixels; others are rounded up, so that nobody can fill the disk with sizes."""

_JPEG_QUALITY = 82
_PRUNE_EVERY = 256


class Thumbnails:
    """A folder of JPEGs. Thread-safe, and safe for several processes: files appear by rename.

    Args:
        folder: where they are kept.
        max_bytes: the least recently made go when there is more.
    """

    def __init__(self, folder: Path, max_bytes: int = 1 << 30) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._made = 0

    def get(
        self, image_id: int, version: str, size: int, make: Callable[[int], NDArray[np.uint8]]
    ) -> tuple[bytes, str]:
        """Return a JPEG and its ETag, asking ``make(side)`` for (H, W, 3) pixels if there is none yet."""
        side = next((known for known in SIZES if known >= size), SIZES[-1])
        tag = hashlib.sha256(f"{version}:{side}".encode()).hexdigest()[:32]
        path = self._path(image_id) / f"{tag}.jpg"
        try:
            return path.read_bytes(), tag
        except FileNotFoundError:
            pass
        from PIL import Image  # noqa: PLC0415  (a search on the command line shows no pictures)

        picture = Image.fromarray(make(side))
        buffer = io.BytesIO()
        # Nothing of the original but its pixels: a comment would be copied otherwise.
        picture.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True, progressive=True, comment=b"")
        self._keep(path, buffer.getvalue())
        return buffer.getvalue(), tag

    def count(self, image_id: int) -> int:
        """Return how many thumbnails of an image are kept."""
        return len(list(self._path(image_id).glob("*.jpg")))

    def forget(self, image_id: int) -> int:
        """Delete the thumbnails of an image; return how many there were."""
        folder = self._path(image_id)
        files = list(folder.glob("*.jpg")) if folder.is_dir() else []
        for file in files:
            file.unlink(missing_ok=True)
        if folder.is_dir():
            folder.rmdir()
        return len(files)

    def _path(self, image_id: int) -> Path:
        return self._folder / f"{image_id % 1000:03}" / str(image_id)

    def _keep(self, path: Path, content: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(content)
            Path(file.name).replace(path)
        except OSError:
            return  # a full disk costs speed, not the answer
        self._made += 1
        if self._made % _PRUNE_EVERY == 1:
            self._prune()

    def _prune(self) -> None:
        files = sorted(((file.stat(), file) for file in self._folder.rglob("*.jpg")), key=lambda item: item[0].st_mtime)
        total = sum(status.st_size for status, _ in files)
        for status, file in files:
            if total <= self._max_bytes:
                return
            file.unlink(missing_ok=True)
            total -= status.st_size

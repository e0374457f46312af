"""Thumbnails of images. They are made once and kept on disk, up to a maximum size."""

from __future__ import annotations

import errno
import hashlib
import io
import tempfile
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from storage.results.region_views import Box

SIZES = (160, 320, 640, 1280)
"""Longest sides of thumbnails, in pixels. Other sizes are rounded up, so that requests cannot fill the disk."""

CROP_SIDES = (64, 128, 256, 512)
"""The same for parts of images."""

_JPEG_QUALITY = 82

_DRAWING = 2
"""The number of the way in which pixels are made. With another one, thumbnails are made anew."""

_PRUNE_EVERY = 256

_FORGET_TRIES = 20
"""Times that a folder is emptied again because another thread wrote into it meanwhile."""


def rounded_up(size: int, known: tuple[int, ...]) -> int:
    """Return the first of the known sizes, which ascend, that is not smaller; the last one if all are."""
    return next((side for side in known if side >= size), known[-1])


class Thumbnails:
    """A folder of JPEGs. Safe for several threads and processes, because files are written and then renamed.

    Args:
        folder: the folder of the files.
        max_bytes: the maximum size of all files. The oldest ones are deleted above it.
    """

    def __init__(self, folder: Path, max_bytes: int = 1 << 30) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._made = 0

    def get(
        self, image_id: int, version: str, size: int, make: Callable[[int], NDArray[np.uint8]]
    ) -> tuple[bytes, str]:
        """Return a JPEG and its ETag. If it does not exist yet, call ``make(side)`` for its (H, W, 3) pixels."""
        return self._get(image_id, version, rounded_up(size, SIZES), make)

    def crop(
        self, image_id: int, version: str, box: Box, side: int, make: Callable[[int], NDArray[np.uint8]]
    ) -> tuple[bytes, str]:
        """Return the same of a part of the image: left, top, right, bottom in 0..1."""
        return self._get(image_id, f"{version}:{box}", rounded_up(side, CROP_SIDES), make)

    def _get(
        self, image_id: int, content: str, side: int, make: Callable[[int], NDArray[np.uint8]]
    ) -> tuple[bytes, str]:
        tag = hashlib.sha256(f"{content}:{side}:{_DRAWING}".encode()).hexdigest()[:32]
        path = self._path(image_id) / f"{tag}.jpg"
        try:
            return path.read_bytes(), tag
        except FileNotFoundError:
            pass
        from PIL import Image  # noqa: PLC0415  (a search on the command line needs no thumbnails)

        picture = Image.fromarray(make(side))
        buffer = io.BytesIO()
        # Keep only the pixels of the original. Without an empty comment, its comment would be copied.
        picture.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True, progressive=True, comment=b"")
        self._keep(path, buffer.getvalue())
        return buffer.getvalue(), tag

    def count(self, image_id: int) -> int:
        """Return the number of files of an image and its parts: thumbnails, and any that a crash left unfinished."""
        return len(_files_in(self._path(image_id)))

    def forget(self, image_id: int) -> int:
        """Delete every file of an image and its parts, unfinished ones too, and return their number.

        Raises:
            OSError: a file cannot be deleted, or other threads keep adding files.
        """
        folder = self._path(image_id)
        forgotten = 0
        for tries_left in reversed(range(_FORGET_TRIES)):
            files = _files_in(folder)
            for file in files:
                file.unlink(missing_ok=True)
            forgotten += len(files)
            try:
                folder.rmdir()
            except FileNotFoundError:
                break
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST} or not tries_left:
                    raise
            else:
                break
        return forgotten

    def _path(self, image_id: int) -> Path:
        return self._folder / f"{image_id % 1000:03}" / str(image_id)

    def _keep(self, path: Path, content: bytes) -> None:
        temporary = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                temporary = Path(file.name)
                file.write(content)
            temporary.replace(path)
        except OSError:
            return  # on a full disk, thumbnails are not kept, but still returned
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
        self._made += 1
        if self._made % _PRUNE_EVERY == 1:
            self._prune()

    def _prune(self) -> None:
        """Delete the oldest files above the maximum size, among them those that a crash left unfinished."""
        found = []
        for file in self._folder.rglob("*"):
            try:
                status = file.stat()
            except FileNotFoundError:
                continue  # another process deleted or renamed it
            if S_ISREG(status.st_mode):
                found.append((status, file))
        found.sort(key=lambda item: item[0].st_mtime)
        total = sum(status.st_size for status, _ in found)
        for status, file in found:
            if total <= self._max_bytes:
                return
            file.unlink(missing_ok=True)
            total -= status.st_size


def _files_in(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []

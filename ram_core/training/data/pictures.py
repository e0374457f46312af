"""Pictures in a folder, and nothing outside of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ram_core.errors import ImageError, TrainingError
from ram_core.file_names import on_disk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ram_core.training.data.dataset import Sample

MAX_BYTES = 200_000_000
"""Larger files are not read."""
_TRIED = 100


class PictureFolder:
    """Reads pictures by their path in a folder.

    Args:
        root: the folder.
        max_bytes: larger files are bad images.

    Raises:
        TrainingError: there is no such folder.
    """

    def __init__(self, root: Path | str, max_bytes: int = MAX_BYTES) -> None:
        self.root = Path(root)
        self._max_bytes = max_bytes
        self._require()
        self._real = os.path.realpath(self.root)

    def name(self, path: str, where: str) -> str:
        """Return a path that a file gives as one below the folder.

        Raises:
            TrainingError: it is empty or leads out of the folder.
        """
        pure = PurePosixPath(path)
        if pure.is_absolute():
            for root in (str(self.root.absolute()), self._real):
                if pure.is_relative_to(root):
                    pure = pure.relative_to(root)
                    break
        if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in path:
            raise TrainingError(
                f"{where}: the picture {path!r} is not below {self.root}; give paths below it, or another folder of "
                "images"
            )
        return str(pure)

    def read(self, name: str) -> bytes:
        """Return a file.

        Raises:
            ImageError: it is missing, no regular file, too large or empty, its name can be none of a file, or a link
                leads out of the folder.
            TrainingError: the folder is gone.
        """
        try:
            real = os.path.realpath(on_disk(self.root, name))
            if os.path.commonpath((real, self._real)) != self._real:
                raise ImageError(f"it is a link to {real}, which is not below {self.root}")
            with open(real, "rb", opener=_open) as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise ImageError("it is no file")
                if found.st_size > self._max_bytes:
                    raise ImageError(f"it has {found.st_size:,} bytes, more than the limit of {self._max_bytes:,}")
                body = file.read(self._max_bytes)
        except OSError as error:
            self._require()
            raise ImageError(f"it cannot be read: {error.strerror or error}") from error
        except UnicodeEncodeError as error:
            raise ImageError("its name has half a character, which no file's name has") from error
        if not body:
            raise ImageError("the file is empty")
        return body

    def text(self, name: str) -> bytes:
        """Return a text file beside a picture.

        Raises:
            TrainingError: it cannot be read, or is no regular file.
        """
        try:
            found = on_disk(self.root, name).stat()
            return b"" if stat.S_ISREG(found.st_mode) and not found.st_size else self.read(name)
        except (ImageError, OSError) as error:
            raise TrainingError(f"{self.root / name} cannot be read ({error}); repair it, or leave it out") from error

    def checked(self, samples: Iterator[Sample]) -> Iterator[Sample]:
        """Yield samples.

        Raises:
            TrainingError: none of the first hundred pictures exists.
        """
        first, found, number = "", False, 0
        for sample in samples:
            number += 1
            first = first or sample.name
            found = found or (number <= _TRIED and self._has(sample.name))
            if number == _TRIED and not found:
                break
            yield sample
        if number and not found:
            raise TrainingError(
                f"none of the first {min(number, _TRIED)} pictures exists, for example {self.root / first}; give the "
                "folder that their paths begin in (images)"
            )

    def _has(self, name: str) -> bool:
        # Unlike `Path.exists`, this is False for names that are too long or that no file can have.
        return os.path.exists(on_disk(self.root, name))  # noqa: PTH110

    def _require(self) -> None:
        if not os.path.isdir(self.root):  # noqa: PTH112  (Path.is_dir raises for long names)
            raise TrainingError(f"the folder of images {self.root} does not exist; give another one (images)")


def _open(path: str, flags: int) -> int:
    # Opening a pipe would otherwise wait for its other end.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)

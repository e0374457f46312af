"""Pictures in a folder, each with its captions in a text file of the same name beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ram_core.errors import TrainingError
from ram_core.training.data.dataset import Source
from ram_core.training.data.pictures import PictureFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ram_core.training.data.dataset import Sample
    from ram_core.training.data.describing import Describer

KIND = "folder"
ENDINGS = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "ppm"})
"""Of the names of pictures."""
MAX_TEXT_BYTES = 1 << 20


def open_folder(path: Path, describer: Describer) -> Source:
    """Return the pictures of a folder and of the folders in it, in the order of their paths."""
    folder = PictureFolder(path)
    return Source(str(path), KIND, _samples(folder, describer), lambda _number, name: folder.read(name))


def lines(body: bytes, where: Path | str) -> list[str]:
    """Return the captions of a text file, one a line.

    Raises:
        TrainingError: it is not UTF-8.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TrainingError(
            f"{where} is not UTF-8 (byte {error.start + 1}); save it as UTF-8, or leave it out"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _samples(folder: PictureFolder, describer: Describer) -> Iterator[Sample]:
    pictures = False
    for place, folders, files in os.walk(folder.root):
        folders.sort()
        texts = {file for file in files if file.endswith(".txt")}
        for file in sorted(files):
            if Path(file).suffix[1:].lower() not in ENDINGS:
                continue
            pictures = True
            name = (Path(place) / file).relative_to(folder.root)
            text = name.with_suffix(".txt")
            captions = []
            if text.name in texts:
                captions = lines(folder.text(text.as_posix()), folder.root / text)
            yield describer.sample(name.as_posix(), captions)
    if not pictures:
        raise TrainingError(f"{folder.root} has neither pictures nor shards; give another folder")

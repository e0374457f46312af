"""Which kind of data a path is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ram_core.errors import TrainingError
from ram_core.labels.tables import ENDINGS as TABLES
from ram_core.training.data.coco import open_coco
from ram_core.training.data.dataset import gathered
from ram_core.training.data.describing import Describer
from ram_core.training.data.official import open_official
from ram_core.training.data.shards import expanded, open_shard
from ram_core.training.data.sidecars import open_folder
from ram_core.training.data.tables import open_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ram_core.training.data.dataset import DataSet, Source
    from ram_core.vocabulary import TagVocabulary


def open_dataset(
    source: Path | str | Sequence[Path | str],
    *,
    vocabulary: TagVocabulary,
    images: Path | str | None = None,
    parse: bool = True,
) -> DataSet:
    """Return the images of files, in the order of the files.

    Args:
        source: one or more of: official training ``.json``; COCO captions ``.json``; ``.csv``, ``.tsv``, ``.jsonl`` or
            ``.parquet`` with a column of images and one of captions; a folder of pictures with ``.txt`` beside them;
            shards ``.tar`` of WebDataset, also as a pattern (``train-{000..127}.tar``, ``train-*.tar``) or a folder.
        vocabulary: the tags.
        images: the folder that the paths of pictures begin in; default: the one that their file is in.
        parse: whether to find the tags of captions that come without.

    Raises:
        TrainingError: there is nothing to learn from, or a file is missing, damaged or does not fit the vocabulary.
    """
    given = [source] if isinstance(source, Path | str) else list(source)
    if not given:
        raise TrainingError("no data is given; give a file or a folder")
    describer = Describer(vocabulary, parse=parse)
    if not all(map(str, given)) or images == "":
        raise TrainingError("a path of data or of images is empty; give a file or a folder, and . for this folder")
    folder = None if images is None else Path(images)
    paths = [path for each in given for path in _paths(each)]
    return gathered([_open(path, describer, folder) for path in paths], len(vocabulary))


def _paths(given: Path | str) -> Iterator[Path]:
    """Yield the files that a path or pattern means, and for a folder of shards these."""
    # Path.exists and the like raise for names that are too long
    is_there = os.path.exists(given)  # noqa: PTH110
    for path in [Path(given)] if is_there else expanded(str(given)):
        shards = sorted(path.glob("*.tar")) if os.path.isdir(path) else []  # noqa: PTH112
        yield from shards or [path]


def _open(path: Path, describer: Describer, images: Path | None) -> Source:
    ending = path.suffix.lower()
    if os.path.isdir(path):  # noqa: PTH112
        return open_folder(path, describer)
    # Reading a pipe may never end, and it cannot be read twice.
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113
        raise TrainingError(f"{path} is no regular file; write the data to a file first")
    if ending == ".tar":
        return open_shard(path, describer)
    if ending in TABLES:
        return open_table(path, describer, images)
    if ending == ".json":
        return (open_coco if _first(path) == "{" else open_official)(path, describer, images)
    raise TrainingError(
        f"{path} is no data to train from; give .json, {', '.join(TABLES)}, .tar, or a folder of pictures"
    )


def _first(path: Path) -> str:
    """Return the first character of a file that is no white space."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.read(1 << 10).lstrip()[:1]
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} cannot be read: {error}") from error

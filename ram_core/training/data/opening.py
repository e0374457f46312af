"""Which kind of data a path is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ram_core.errors import TrainingError
from ram_core.training.data.dataset import gathered
from ram_core.training.data.describing import Describer
from ram_core.training.data.official import open_official

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    folder = None if images is None else Path(images)
    return gathered([_open(Path(each), describer, folder) for each in given], len(vocabulary))


def _open(path: Path, describer: Describer, images: Path | None) -> Source:
    if not path.exists():
        raise TrainingError(f"{path} does not exist; give a file or a folder")
    return open_official(path, describer, images)

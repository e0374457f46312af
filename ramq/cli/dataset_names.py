"""Names of data sets where commands take paths of data: ``pets`` or ``pets@2``, if there is no such path."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from storage.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ram_core.training.data import DataSet
    from ram_core.vocabulary import TagVocabulary
    from ramq.wiring import Services

PREFIX = "dataset:"
"""How a split of a version is written where it is kept: ``dataset:pets@2/train``."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}(@\d+)?")
_FILES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".tar", ".txt")
_KEPT = re.compile(PREFIX + r"(?P<name>[^/]+)/(?P<split>train|validation)")


class Splits(NamedTuple):
    """What to learn from, and what to score on, with data sets as their splits."""

    dataset: tuple[str, ...] | None
    validate: tuple[str, ...] | None


def with_splits(dataset: Sequence[str] | None, validate: Sequence[str] | None, ramq: Callable[[], Services]) -> Splits:
    """Replace names of data sets: what learns has the training split, and what scores the validation split.

    Without ``validate``, the validation split of the data set to learn from is used, if it has pictures.

    Raises:
        UsageError: something is neither a path nor a data set.
    """
    learn = [_split(each, "train", ramq) for each in dataset or ()]
    score = [_split(each, "validation", ramq) for each in validate or ()]
    if len(learn) == 1 and not score and (kept := _KEPT.fullmatch(learn[0])):
        version = ramq().datasets.find(kept["name"])
        if version.counts.get("validation"):
            score = [f"{PREFIX}{kept['name']}/validation"]
    return Splits(tuple(learn) or None, tuple(score) or None)


def _split(text: str, split: str, ramq: Callable[[], Services]) -> str:
    if _KEPT.fullmatch(text) or not _NAME.fullmatch(text) or text.endswith(_FILES) or os.path.exists(text):  # noqa: PTH110  (Path.exists raises for long names)
        return text
    try:
        version = ramq().datasets.find(text)
    except NotFoundError as error:
        raise UsageError(f"{text} is no file or folder, and {error}") from error
    if split == "validation" and not version.counts.get("validation"):
        raise UsageError(
            f"{version.name}@{version.number} has no validation pictures; build it with more pictures, or with a "
            "larger --validation"
        )
    return f"{PREFIX}{version.name}@{version.number}/{split}"


def is_dataset(source: str) -> bool:
    """Return whether a source of data is a split of a data set."""
    return _KEPT.fullmatch(source) is not None


def opened(source: str, vocabulary: TagVocabulary, ramq: Services) -> DataSet:
    """Return a split of a data set as data. Raises as ``TrainingDataClient.of_dataset``."""
    kept = _KEPT.fullmatch(source)
    assert kept is not None
    return ramq.training_data.of_dataset(kept["name"], vocabulary, is_validation=kept["split"] == "validation")

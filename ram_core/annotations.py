"""The files of the official benchmarks: the images, and the tags of each image.

A tag list has one tag per line. An annotation line is an image's path and, after the first comma, its tags. They are
names separated by commas (OpenImages); positions in the tag list, from 0, separated by blanks (ImageNet-multi, HICO);
or, if the tag list itself consists of numbers, ids of the model's vocabulary separated by commas (Tag2Text).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ram_core.errors import ModelError
from ram_core.file_names import on_disk
from ram_core.vocabulary import TagVocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

# OpenImages' annotation lines name images without their file extension.
_ENDINGS = ("", ".jpg", ".jpeg", ".JPEG", ".JPG", ".png")


@dataclass(frozen=True, slots=True, eq=False)
class Benchmark:
    """Annotated images.

    Attributes:
        tags: (C) names, or ids of the model's vocabulary as text; one may occur twice.
        images: (N) paths as in the annotation file.
        targets: (N, C) True if the image has the tag.
        sha256: hash (hex) of the annotation file; identifies an official one.
    """

    tags: tuple[str, ...]
    images: tuple[str, ...]
    targets: NDArray[np.bool_]
    sha256: str

    @property
    def has_ids(self) -> bool:
        """Whether the tags are ids of the model's vocabulary."""
        return all(tag.isdecimal() for tag in self.tags)


@dataclass(frozen=True, slots=True)
class Published:
    """Published figures of a benchmark.

    Attributes:
        benchmark: its name.
        figures: model -> mAP in percent, as text if the paper gives one per part of the classes.
    """

    benchmark: str
    figures: Mapping[str, str]


# The tables of zero-shot mAP in arXiv:2310.15200 (RAM++) and arXiv:2306.03514 (RAM), as the official README shows them
# (`images/ram_plus_experiment.png`, `images/experiment_comparison.png`), by hash of the official annotation file.
# All for the 14M checkpoints. ImageNet-multi is reported in two parts whose classes were not published.
PUBLISHED: Mapping[str, Published] = {
    "f54429fd57ee9798aee2c7511a28b080998672a91886510ea2e7b60a785ad6cc": Published(
        "OpenImages-common 214", {"ram": "86.5", "ram_plus": "86.6"}
    ),
    "a15f9864b0a3c22228a7c47fd523eadf7ecc33308f1a0ab184460a76f743fb47": Published(
        "OpenImages-common 214", {"tag2text": "83.4"}
    ),
    "6a6f87480aaf86083131c632573c6ea302ca1dced29fbe5274254364fc1305a2": Published(
        "OpenImages-rare 200", {"ram": "68.8 (69.2 in RAM's own paper)", "ram_plus": "75.4"}
    ),
    "5e67b16d3e207f3af3cd4d2f105442e28e9770a92669d1ee8c11367a85bdfcd4": Published(
        "ImageNet-multi 1000",
        {"ram": "71.4 common, 48.4 uncommon classes", "ram_plus": "72.4 common, 55.0 uncommon classes"},
    ),
    "68a0f34293550194ca9beb1ba6b0bed0bee134d5c956f286ef09427a484f3707": Published(
        "HICO 600", {"ram": "32.9", "ram_plus": "37.7"}
    ),
}


def read_benchmark(annotations: Path | str, taglist: Path | str, vocabulary: TagVocabulary | None = None) -> Benchmark:
    """Read a tag list and the annotations that belong to it.

    Args:
        annotations: a line for each image.
        taglist: a line for each tag.
        vocabulary: tags with synonyms. A label that is not in the list means the tags of the list that have it as
            another name there, or as an alternative ("cat" of "cat/kitty").

    Raises:
        ModelError: a file is missing or empty, or an annotation is not in the tag list; the message names the line.
    """
    annotations, taglist = Path(annotations), Path(taglist)
    tags = tuple(line.strip() for line in _lines(taglist))
    rows = [line.split(",", 1) for line in _lines(annotations)]
    columns: dict[str, list[int]] = {}
    for column, tag in enumerate(tags):
        columns.setdefault(tag, []).append(column)
    positions = not all(tag.isdecimal() for tag in tags) and _are_positions(rows)
    others = _OtherNames(tags, vocabulary)
    targets = np.zeros((len(rows), len(tags)), dtype=np.bool_)
    for number, row in enumerate(rows):
        labels = row[1] if len(row) > 1 else ""
        for label in labels.split() if positions else [each.strip() for each in labels.split(",") if each.strip()]:
            found = _position(label, len(tags)) if positions else columns.get(label) or others.columns(label)
            if not found:
                raise ModelError(f"{annotations}, line {number + 1}: {label!r} is not in {taglist}")
            targets[number, found] = True
    digest = hashlib.sha256(annotations.read_bytes()).hexdigest()
    return Benchmark(tags, tuple(row[0].strip() for row in rows), targets, digest)


def locate(images: Path, name: str) -> Path:
    """Return the path of an annotated image. It may not exist; reading it then raises an error."""
    candidates = [on_disk(images, f"{name}{ending}") for ending in _ENDINGS]
    return next((path for path in candidates if path.is_file()), candidates[0])


def read_descriptions(path: Path | str, tags: Sequence[str]) -> dict[str, list[str]]:
    """Return the sentences of these tags from the official JSON format, a list of ``{tag: [sentences]}``.

    Raises:
        ModelError: the file is missing or in another format, or lacks a tag.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
        known = {name: list(sentences) for entry in entries for name, sentences in entry.items()}
    except FileNotFoundError as error:
        raise ModelError(f"{path} does not exist") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"{path} is not a JSON list of {{tag: [sentences]}}") from error
    others = _OtherNames(tuple(known)) if known else None
    names = list(known)
    found = {
        tag: known.get(tag) or [each for at in (others.columns(tag) if others else ()) for each in known[names[at]]]
        for tag in tags
    }
    lacking = [tag for tag in tags if not found[tag]]
    if lacking:
        raise ModelError(f"{path} has no description of {lacking[0]!r} ({len(lacking)} tags of the list are missing)")
    return found


class _OtherNames:
    """Finds the tags of a list by names that are not spelled as there.

    Args:
        tags: the list.
        vocabulary: tags with synonyms.
    """

    def __init__(self, tags: tuple[str, ...], vocabulary: TagVocabulary | None = None) -> None:
        self._tags, self._vocabulary = tags, vocabulary

    def columns(self, label: str) -> Sequence[int]:
        """Return the positions of the tags that a label means."""
        if label.isdecimal():  # an id, which is in the list or not
            return ()
        if found := self._list.resolve(label):
            return found
        meant = () if self._vocabulary is None else self._vocabulary.resolve(label)
        return [column for tag_id in meant for column in self._by_id.get(tag_id, ())]

    @cached_property
    def _list(self) -> TagVocabulary:
        return TagVocabulary.from_names("list", self._tags)

    @cached_property
    def _by_id(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for column, tag in enumerate(self._tags):
            for tag_id in self._vocabulary.resolve(tag) if self._vocabulary and not tag.isdecimal() else ():
                found.setdefault(tag_id, []).append(column)
        return found


def _are_positions(rows: list[list[str]]) -> bool:
    labels = [row[1] for row in rows if len(row) > 1 and row[1].strip()]
    return bool(labels) and all(part.isdecimal() for label in labels for part in label.split())


def _position(label: str, count: int) -> list[int]:
    return [int(label)] if int(label) < count else []


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise ModelError(f"{path} does not exist") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is not UTF-8 text") from error
    kept = [line for line in lines if line.strip()]
    if not kept:
        raise ModelError(f"{path} is empty")
    return kept

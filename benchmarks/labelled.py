"""Pictures of which it is known what they show, for benchmarks of search.

``stamps`` and ``photographs`` are in Debian packages (``bench_retrieval`` says which). ``coco`` and ``flickr30k`` read
the folders that these data sets are published as.
"""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from tests.photographs import UNPACKED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

# Drawings, signs with a rule for a text, and pictures that repeat another.
_NO_PICTURES = ("symbols/", "roadsigns/", "flags/", "cartoon", "_mirror")
_NO_NAMES = ("alphabets/", "numbers/", "music/", "clickgame/")
# Texts that no picture of either set answers. The first ones helped to choose the cutoff, the unseen ones did not.
UNANSWERABLE = (
    *("asdf qwerty", "xyzzy plugh", "lorem ipsum dolor sit amet", "quarterly tax return", "gdpr compliance"),
    *("the meaning of life", "blorptastic zimfandel", "a wedding ceremony on mars", "quantum entanglement"),
    *("existential dread", "an x-ray of a broken arm", "a map of the london underground", "a newspaper front page"),
    *("a screenshot of a spreadsheet", "a graph of stock prices", "two people shaking hands in an office"),
    *("a surgeon in an operating room", "a baby sleeping in a cradle", "a crowded subway platform", "a tattooed arm"),
)
UNANSWERABLE_UNSEEN = (
    *("hjkl uiop vbnm", "wibble flobadob", "sed ut perspiciatis unde omnis", "annual shareholder meeting"),
    *("freedom of speech", "inflation rate", "the square root of two", "jealousy", "a bride and a groom at the altar"),
    *("a passport photograph", "a whiteboard full of equations", "a dentist drilling a tooth", "a chess tournament"),
    *("graffiti on a train", "a firefighter carrying a hose", "people voting at a polling station", "a mugshot"),
    *("a child blowing out candles", "a ballet dancer on stage", "a traffic jam on a motorway at night"),
)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Pictures and what each shows."""

    paths: list[Path]
    texts: list[str]


@dataclass(frozen=True, slots=True)
class Captioned:
    """Pictures and the texts that ask for them.

    Attributes:
        paths: N pictures.
        queries: Q texts.
        right: for each text, the numbers of the pictures that are an answer; one at least.
        folders: of each picture, the kind of thing that it shows; empty: not known.
    """

    paths: list[Path]
    queries: list[str]
    right: list[list[int]]
    folders: list[str]


def stamps(folder: Path) -> Labelled:
    """Pictures whose description lies beside them, in English in its first line."""
    paths = [
        path
        for path in sorted(folder.rglob("*.png"))
        if path.with_suffix(".txt").exists() and not any(part in str(path.relative_to(folder)) for part in _NO_PICTURES)
    ]
    return Labelled(
        paths, [path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()[0].strip() for path in paths]
    )


def photographs(folder: Path = UNPACKED) -> Labelled:
    """Photographs whose file names say what they show: ``statueOfLiberty.webp``, ``hammer3.webp``."""
    paths = [path for path in sorted(folder.rglob("*.webp")) if not any(part in str(path) for part in _NO_NAMES)]
    words = (re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"\d", "", path.stem)) for path in paths)
    return Labelled(paths, [name.replace("_", " ").lower() for name in words])


def opened(path: Path, prepare: Callable[[Image.Image], Any]) -> Any:
    """Return what ``prepare`` makes of a picture."""
    with Image.open(path) as image:
        return prepare(image)


def by_text(labelled: Labelled) -> Captioned:
    """Ask for each text once. All pictures that have it are right."""
    right = defaultdict(list)
    for number, text in enumerate(labelled.texts):
        right[text].append(number)
    queries = sorted(right)
    return Captioned(
        labelled.paths, queries, [right[query] for query in queries], [folder_of(path) for path in labelled.paths]
    )


def folder_of(path: Path) -> str:
    """Return the folder that says of which kind a picture is: the upper two of the stamps', the last of the others'."""
    _, is_stamp, below = str(path).rpartition("/stamps/")
    return "/".join(below.split("/")[:-1][:2]) if is_stamp else path.parent.name


def coco(folder: Path, split: str = "val2017") -> Captioned:
    """Read COCO: ``FOLDER/annotations/captions_val2017.json`` and the pictures in ``FOLDER/val2017``.

    Each caption asks for its picture.
    """
    told = json.loads((folder / "annotations" / f"captions_{split}.json").read_text(encoding="utf-8"))
    names = {image["id"]: image["file_name"] for image in told["images"]}
    pairs = ((names[each["image_id"]], each["caption"]) for each in told["annotations"])
    return _captioned(folder / split, pairs)


def flickr30k(folder: Path) -> Captioned:
    """Read Flickr30k: the pictures in ``FOLDER/flickr30k-images``, and beside that folder what tells their captions.

    That is ``dataset_flickr30k.json`` (its split ``test``), ``results.csv`` or ``results_20130124.token`` (all
    pictures). Each caption asks for its picture.
    """
    split, table, tokens = (
        folder / name for name in ("dataset_flickr30k.json", "results.csv", "results_20130124.token")
    )
    pairs: Iterable[tuple[str, str]]
    if split.exists():
        told = json.loads(split.read_text(encoding="utf-8"))["images"]
        test = [image for image in told if image["split"] == "test"]
        pairs = ((image["filename"], each["raw"]) for image in test for each in image["sentences"])
    elif table.exists():
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, delimiter="|"))[1:]
        pairs = ((row[0].strip(), row[2].strip()) for row in rows if len(row) > 2)
    else:
        lines = tokens.read_text(encoding="utf-8").splitlines()
        pairs = ((name.split("#")[0], text) for name, _, text in (line.partition("\t") for line in lines))
    return _captioned(folder / "flickr30k-images", pairs)


def _captioned(folder: Path, pairs: Iterable[tuple[str, str]]) -> Captioned:
    """Return the pictures that are in the folder; captions of others are left out."""
    numbers: dict[str, int] = {}
    queries, right = [], []
    for name, text in pairs:
        if name not in numbers and not (folder / name).exists():
            continue
        queries.append(text.strip())
        right.append([numbers.setdefault(name, len(numbers))])
    return Captioned([folder / name for name in numbers], queries, right, [])

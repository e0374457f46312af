"""Small data sets for training: pictures with captions, in a folder."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from ram_core import TagVocabulary
from ram_core.training.data import open_dataset
from ram_core.training.data.dataset import Sample

if TYPE_CHECKING:
    from pathlib import Path

    from ram_core.training.data import DataSet

NAMES = ("dog", "cat", "sofa", "beach", "car")
VOCABULARY = TagVocabulary.from_names("few", NAMES)
CAPTIONS = ("A dog on a sofa.", "Two cats", "a car at the beach", "a dog, and no cat", "nothing to see")
CAPTION_TAGS = ([0, 2], [1], [3, 4], [0], [])
ROWS: list[dict[str, Any]] = [
    {"image": "a.jpg", "caption": "A dog on a sofa.", "caption_2": "a cat"},
    {"image": "b/c.jpg", "caption": "no dogs", "caption_2": ""},
    {"image": "d.png", "caption": "two cars", "caption_2": None},
]
"""Rows of a table of captions."""
WANTED = [
    Sample("a.jpg", ["A dog on a sofa.", "a cat"], [[0, 2], [1]], [0, 1, 2]),
    Sample("b/c.jpg", ["no dogs"], [[]], []),
    Sample("d.png", ["two cars"], [[4]], [4]),
]
"""What they say."""
OFFICIAL = {"image_path": "a.jpg", "caption": ["a dog"], "parse_label_id": [[0]], "union_label_id": [0]}
"""An entry of an official file."""


def picture(seed: int, size: tuple[int, int] = (48, 40), kind: str = "JPEG") -> bytes:
    """The file of a picture that depends on the seed."""
    low = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(low).resize(size, Image.Resampling.BICUBIC).save(buffer, kind)
    return buffer.getvalue()


def entry(number: int) -> dict[str, Any]:
    """What an official file says of a picture: one or two captions."""
    which = [number % 5, (number + 1) % 5][: 1 + number % 2]
    parsed = [CAPTION_TAGS[each] for each in which]
    return {
        "image_path": f"{number // 10}/{number}.jpg",
        "caption": [f"{CAPTIONS[each]}" for each in which],
        "parse_label_id": parsed,
        "union_label_id": sorted({tag for tags in parsed for tag in tags} | {number % 5}),
    }


def write_pictures(folder: Path, count: int, broken: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """Write pictures and return their entries. Of the broken ones, each is broken in its own way."""
    entries = [entry(number) for number in range(count)]
    for number, each in enumerate(entries):
        path = folder / each["image_path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    for way, number in enumerate(broken):
        path = folder / entries[number]["image_path"]
        body = path.read_bytes()
        if way % 4 == 0:
            path.unlink()
        else:
            path.write_bytes((body[: len(body) // 2], b"no picture", picture(number, (3000, 1)))[way % 4 - 1])
    return entries


def write_official_set(folder: Path, count: int, broken: tuple[int, ...] = ()) -> Path:
    """Write an official file beside its pictures."""
    path = folder / "train.json"
    path.write_text(json.dumps(write_pictures(folder, count, broken)), encoding="utf-8")
    return path


def opened(path: Path | str | list[Path], **options: Any) -> DataSet:
    """Open training data with the tags ``NAMES``."""
    return open_dataset(path, vocabulary=VOCABULARY, **options)


def write_rows(folder: Path) -> Path:
    """Write the pictures of ``ROWS`` and return their folder."""
    (folder / "b").mkdir()
    for number, row in enumerate(ROWS):
        path = folder / row["image"]
        path.write_bytes(picture(number, kind="PNG" if path.suffix == ".png" else "JPEG"))
    return folder


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the format that the ending names."""
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def write_shard(path: Path, members: dict[str, bytes]) -> Path:
    """Write a tar file."""
    with tarfile.open(path, "w") as archive:
        for name, body in members.items():
            entry_of = tarfile.TarInfo(name)
            entry_of.size = len(body)
            archive.addfile(entry_of, io.BytesIO(body))
    return path

"""Small data sets for training: pictures with captions, in a folder."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ram_core import TagVocabulary

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("dog", "cat", "sofa", "beach", "car")
VOCABULARY = TagVocabulary.from_names("few", NAMES)
CAPTIONS = ("A dog on a sofa.", "Two cats", "a car at the beach", "a dog, and no cat", "nothing to see")
CAPTION_TAGS = ([0, 2], [1], [3, 4], [0], [])


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

"""Files that are damaged anywhere are read, or refused in one line."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from ram_core.errors import ImageError, TrainingError
from ram_core.training.data import write_official
from tests.training_data import picture
from tests.unit.test_training_files import ROWS, WANTED, folder, opened, write_shard, write_table

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["folder"]  # a fixture


@pytest.mark.parametrize("kind", ["json", "coco.json", "csv", "jsonl", "parquet", "tar"])
def test_damaged_files_never_end_in_anything_but_a_message(folder: Path, kind: str) -> None:
    path = folder / f"t.{kind}"
    if kind == "json":
        write_official(path, WANTED)
    elif kind == "coco.json":
        pictures = [{"id": 1, "file_name": "a.jpg"}]
        path.write_text(json.dumps({"images": pictures, "annotations": [{"image_id": 1, "caption": "a dog"}]}))
    elif kind == "tar":
        write_shard(path, {"1.jpg": picture(0), "1.txt": b"a dog", "2.jpg": picture(1), "2.json": b'{"tags": [1]}'})
    else:
        write_table(path, ROWS)
    whole = path.read_bytes()
    draw = random.Random(0)
    messages: list[str] = []
    for _ in range(150):
        body = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(min(len(body), 1200))
            body[at : at + draw.randint(0, 3)] = draw.choice(
                (b"", b"]", b"{", b"[", b'"', b"\xff", b"\0", b"9", b"null")
            )
        path.write_bytes(body)
        try:
            dataset = opened(path)
            for index in range(len(dataset)):
                with suppress(ImageError):
                    dataset.read(index)
        except TrainingError as error:
            messages.append(str(error))
    assert messages
    assert not any("\n" in message for message in messages)

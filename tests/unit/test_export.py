"""Exports: every format says the same, nothing is run by a spreadsheet, and memory does not grow."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow import parquet

from ramq.services import export
from ramq.services.export import TABLES, write_rows
from storage.results.tags import Names
from storage.results.views import TagView
from storage.search.query import Match
from storage.search.views import Hit
from storage.tables import Generation

if TYPE_CHECKING:
    from collections.abc import Iterator

MADE_BY = Match(
    Generation(id=2, model="lite", weights_sha256="ab", vocabulary_id=1),
    Names(1, ("dog", "red boat", "狗"), ("狗", None, None), (0.5, 0.5, 0.5)),
    None,
    (),
)
TAGS = [TagView(1, "red boat", None, 1.0, 0.5, "person"), TagView(0, "dog", "狗", 0.75, 0.5)]


def hit(number: int, **changes: Any) -> Hit:
    values: dict[str, Any] = {
        "image_id": number, "key": f"{number}.jpg", "archive": "s3://photos", "score": 0.5, "tags": TAGS,
        "caption": "a dog", "generation_id": 2, "width": 640, "height": 480,
    }  # fmt: skip
    return Hit(**(values | changes))


def written(format_: str, *hits: Hit) -> bytes:
    file = io.BytesIO()
    write_rows(hits, format_, file, MADE_BY)
    return file.getvalue()


def test_json_lines_and_parquet_say_the_same() -> None:
    hits = [hit(1), hit(2, tags=[], caption=None)]
    rows = [json.loads(line) for line in written("jsonl", *hits).splitlines()]
    assert rows[0] == {
        "image_id": 1, "archive": "s3://photos", "key": "1.jpg", "caption": "a dog", "tag_ids": [1, 0],
        "tags": ["red boat", "dog"], "scores": [1.0, 0.75], "sources": ["person", "model"], "generation_id": 2,
        "model": "lite", "width": 640, "height": 480, "caption_contradicts": [], "given_keywords": [],
        "page": None, "pages": None,
    }  # fmt: skip
    assert parquet.read_table(io.BytesIO(written("parquet", *hits))).to_pylist() == rows


@pytest.mark.parametrize("key", ["=1+1", "+1", "-1", "@x", "\tx", "\r=1"])
def test_no_cell_of_a_csv_is_a_formula(key: str) -> None:
    tags = [TagView(0, key, None, 0.75, 0.5)]
    [row] = csv.DictReader(io.StringIO(written("csv", hit(1, key=key, caption=key, tags=tags)).decode(), newline=""))
    assert (row["key"], row["caption"], row["tags"]) == (f"'{key}",) * 3
    assert (row["width"], row["model"], row["sources"]) == ("640", "lite", "model")


def test_a_coco_document_has_categories_images_and_an_annotation_for_each_tag() -> None:
    document = json.loads(written("coco", hit(7), hit(9, key="é/狗.png", tags=TAGS[1:])))
    assert document["info"]["model"] == "lite"
    assert document["categories"] == [
        {"id": 0, "name": "dog", "name_zh": "狗", "supercategory": "tag"},
        {"id": 1, "name": "red boat", "name_zh": None, "supercategory": "tag"},
        {"id": 2, "name": "狗", "name_zh": None, "supercategory": "tag"},
    ]
    assert [(image["id"], image["file_name"]) for image in document["images"]] == [(7, "7.jpg"), (9, "é/狗.png")]
    assert document["images"][0].items() >= {"width": 640, "height": 480, "caption": "a dog"}.items()
    assert document["annotations"] == [
        {"id": 1, "image_id": 7, "category_id": 1, "score": 1.0, "source": "person"},
        {"id": 2, "image_id": 7, "category_id": 0, "score": 0.75, "source": "model"},
        {"id": 3, "image_id": 9, "category_id": 0, "score": 0.75, "source": "model"},
    ]


def test_an_export_of_nothing_is_a_document_of_its_format() -> None:
    file = io.BytesIO()
    write_rows([], "coco", file, None)
    assert json.loads(file.getvalue())["images"] == []
    assert json.loads(written("coco"))["annotations"] == []


class Counting(io.RawIOBase):
    """A file that keeps nothing."""

    size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.size += len(data)
        return len(data)


@pytest.mark.parametrize("format_", [*TABLES, "coco"])
def test_memory_does_not_grow_with_the_number_of_images(format_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_ROW_GROUP", 2_000)

    def hits(count: int) -> Iterator[Hit]:
        return (hit(number, caption="x" * 200) for number in range(count))

    file = Counting()
    write_rows(hits(1), format_, Counting(), MADE_BY)  # type: ignore[arg-type]  # loads what it needs
    tracemalloc.start()
    write_rows(hits(10_000), format_, file, MADE_BY)  # type: ignore[arg-type]  # as much of a file as is needed
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert file.size > (100_000 if format_ == "parquet" else 2_000_000)
    assert most < (6_400_000 if format_ == "parquet" else 500_000)  # 50 bytes an image; five groups of parquet

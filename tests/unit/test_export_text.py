"""Exports with the text in images: as a column, and as files in an archive."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import tracemalloc
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from pyarrow import parquet

from ramq.services import export
from ramq.services.export import TEXT_FILES, write_rows, write_text_files
from tests.readings import line, reading, rectangle
from tests.unit.test_export import MADE_BY, Counting, hit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.results.reading_views import ReadingView
    from storage.search.views import Hit

READ = {1: reading(line(1, "=GOOD"), line(2, "早上好", rectangle(0, 0, 1, 0.5))), 2: reading()}


def readings(ids: Sequence[int]) -> dict[int, ReadingView]:
    return {image_id: READ[image_id] for image_id in ids if image_id in READ}


def written(format_: str, *hits: Hit) -> bytes:
    file = io.BytesIO()
    write_rows(hits, format_, file, MADE_BY, readings)
    return file.getvalue()


def test_json_lines_and_parquet_have_the_lines_of_images_that_were_read() -> None:
    hits = [hit(1), hit(2), hit(3)]
    rows = [json.loads(row) for row in written("jsonl", *hits).splitlines()]
    assert [row["text"] for row in rows] == [
        [
            {"text": "=GOOD", "confidence": 0.9, "polygon": [[0.1, 0.2], [0.5, 0.2], [0.5, 0.3], [0.1, 0.3]]},
            {"text": "早上好", "confidence": 0.9, "polygon": [[0, 0], [1, 0], [1, 0.5], [0, 0.5]]},
        ],
        [],
        None,
    ]
    table = parquet.read_table(io.BytesIO(written("parquet", *hits))).to_pylist()
    assert [[one["text"] for one in row["text"] or ()] for row in table] == [["=GOOD", "早上好"], [], []]
    assert table[2]["text"] is None
    assert table[0]["text"][0]["polygon"][1] == [pytest.approx(0.5), pytest.approx(0.2)]


def test_a_csv_has_the_lines_in_one_cell_that_is_no_formula() -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", hit(1), hit(2), hit(3)).decode(), newline="")))
    assert [row["text"] for row in rows] == ["'=GOOD|早上好", "", ""]


def test_text_is_read_in_batches_and_keeps_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_BATCH", 2)
    asked: list[list[int]] = []

    def remembered(ids: Sequence[int]) -> dict[int, ReadingView]:
        asked.append(list(ids))
        return readings(ids)

    file = io.BytesIO()
    write_rows([hit(number) for number in (3, 2, 1)], "jsonl", file, MADE_BY, remembered)
    assert asked == [[3, 2], [1]]
    assert [json.loads(row)["image_id"] for row in file.getvalue().splitlines()] == [3, 2, 1]


@pytest.mark.parametrize("format_", TEXT_FILES)
def test_each_image_that_was_read_has_a_file_with_its_size(format_: str) -> None:
    file = io.BytesIO()
    counts = write_text_files([hit(1, key="../a/b.jpg"), hit(2), hit(3)], format_, file, readings)
    assert counts == (2, 1)
    with tarfile.open(fileobj=io.BytesIO(file.getvalue())) as archive:
        ending = {"hocr": "hocr", "alto": "alto.xml"}[format_]
        assert archive.getnames() == [f"0/1-b.jpg.{ending}", f"0/2-2.jpg.{ending}"]
        content = archive.extractfile(archive.getnames()[0])
        assert content is not None
        text = content.read().decode()
    ET.fromstring(text)
    assert "早上好" in text
    assert "640" in text  # the width of the image


def test_memory_does_not_grow_with_the_number_of_files() -> None:
    def export_of(count: int, file: Counting) -> None:
        hits = (hit(number) for number in range(count))
        write_text_files(hits, "alto", file, lambda ids: dict.fromkeys(ids, READ[1]))  # type: ignore[arg-type]  # as much of a file as is needed

    export_of(1, Counting())
    file = Counting()
    tracemalloc.start()
    export_of(4_000, file)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert file.size > 4_000_000
    assert most < 1_500_000

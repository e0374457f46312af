"""Tables as other programs save them: parted by semicolons, in other encodings, and empty."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from pyarrow import parquet

from ram_core.errors import VocabularyError
from ram_core.labels.tables import Table
from storage.errors import UsageError
from storage.objects.base import S3Options
from storage.objects.manifest import Manifest
from storage.objects.tables import column_name, read_rows

if TYPE_CHECKING:
    from pathlib import Path

SEMICOLONS = "key;caption\r\na.jpg;A dog, on a lawn\r\nb.jpg;Eine Straße\r\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_parted_by_semicolons_is_read_in_the_encodings_of_excel(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "captions.csv"
    file.write_bytes(SEMICOLONS.encode(encoding))
    rows = [("a.jpg", "A dog, on a lawn"), ("b.jpg", "Eine Straße")]
    table = Table(file)
    assert table.columns == ["key", "caption"]
    assert [(row["key"], row["caption"]) for _, row in table.rows(["key", "caption"])] == rows
    assert [(row["key"], row["caption"]) for row in read_rows(file, "csv", "captions.csv")] == rows


def test_a_list_of_keys_alone_may_have_semicolons_in_its_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys.csv"
    file.write_text("a;b.jpg\nc.jpg\n")
    assert list(read_rows(file, "csv", "keys.csv")) == [{"key": "a;b.jpg"}, {"key": "c.jpg"}]


@pytest.mark.parametrize(
    ("body", "told"),
    [(SEMICOLONS.encode("cp1252"), "is not UTF-8: save the file as UTF-8"), (b"", "captions.csv is empty")],
)
def test_what_cannot_be_read_says_what_to_do(tmp_path: Path, body: bytes, told: str) -> None:
    file = tmp_path / "captions.csv"
    file.write_bytes(body)
    with pytest.raises(VocabularyError, match=told):
        list(Table(file).rows(["key"]))


@pytest.mark.parametrize("parted", [",", ";", "\t", "|"])
@pytest.mark.parametrize("column", ["filepath", "file_name", "Image Path", "image", "s3_uri"])
def test_lists_of_other_tools_name_and_part_their_columns_in_their_own_way(
    tmp_path: Path, column: str, parted: str
) -> None:
    file = tmp_path / "list.csv"
    file.write_text(f'"id"{parted}"{column}"{parted}"note"\n1{parted}"a;b,c|d.jpg"{parted}"a, b; c | d"\n')
    assert list(read_rows(file, "csv", "list.csv")) == [
        {"id": "1", column_name(column): "a;b,c|d.jpg", "note": "a, b; c | d"}
    ]


@pytest.mark.parametrize("name", ["list.csv", "list.tsv", "list.jsonl", "list.parquet"])
def test_an_address_on_the_web_is_not_taken_where_a_path_is_named_too(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    rows = {"url": ["https://example.org/1.jpg"], "caption": ["a dog"], "file_name": ["a.jpg"]}
    write_table(tmp_path / name, rows)
    manifest = Manifest(str(tmp_path / name), S3Options())
    archive = manifest.survey(("file:///",), reachable=False)
    assert [[info.key for info in page] for _, page in manifest.pages(archive, "", None)] == [["a.jpg"]]


@pytest.mark.parametrize("name", ["laion.csv", "laion.parquet"])
def test_addresses_on_the_web_alone_are_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    write_table(tmp_path / name, {"URL": ["https://example.org/1.jpg"], "TEXT": ["a dog"], "WIDTH": ["640"]})
    with pytest.raises(UsageError, match=r"entry 1: 'https.*download the images first"):
        Manifest(str(tmp_path / name), S3Options()).survey(("file:///",), reachable=False)


@pytest.mark.parametrize("name", ["list.csv", "list.parquet"])
def test_a_table_without_a_column_of_images_says_which_columns_it_has(tmp_path: Path, name: str) -> None:
    write_table(tmp_path / name, {"id": ["1"], "photo": ["a.jpg"]})
    with pytest.raises(UsageError, match=r"no column of keys\. Its columns are id, photo: .* key, uri, url, path"):
        Manifest(str(tmp_path / name), S3Options()).survey(("file:///",), reachable=False)


def test_a_column_with_the_bytes_of_images_does_not_name_them(tmp_path: Path) -> None:
    file = tmp_path / "list.parquet"
    table = pa.table({"image": [{"bytes": b"\xff\xd8", "path": "x.jpg"}], "img": [b"\xff\xd8"], "filename": ["a.jpg"]})
    parquet.write_table(table, file)
    assert list(read_rows(file, "parquet", "list.parquet")) == [{"filename": "a.jpg"}]


def write_table(path: Path, columns: dict[str, list[str]]) -> None:
    if path.suffix == ".parquet":
        parquet.write_table(pa.table(columns), path)
        return
    rows = list(zip(*columns.values(), strict=True))
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
        return
    parted = "\t" if path.suffix == ".tsv" else ","
    path.write_text("".join(parted.join(row) + "\n" for row in [tuple(columns), *rows]))

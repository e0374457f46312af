"""Tables as other programs save them: parted by semicolons, in other encodings, and empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ram_core.errors import VocabularyError
from ram_core.labels.tables import Table
from storage.objects.tables import read_rows

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

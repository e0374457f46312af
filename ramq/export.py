"""Results as rows of a file: JSON lines, CSV or Parquet, streamed."""

from __future__ import annotations

import csv
import io
import json
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from storage.views import Hit

FORMATS = ("jsonl", "csv", "parquet")
_COLUMNS = ("image_id", "archive", "key", "caption", "tag_ids", "tags", "scores")
_ROW_GROUP = 10_000
# A spreadsheet takes a cell that begins so for a formula and may run it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_rows(hits: Iterable[Hit], format_: str, file: IO[bytes]) -> None:
    """Write a row per hit: id, archive, key, caption, and the assigned tags with their scores, best first."""
    rows = (_row(hit) for hit in hits)
    {"jsonl": _write_jsonl, "csv": _write_csv, "parquet": _write_parquet}[format_](rows, file)


def _row(hit: Hit) -> dict[str, Any]:
    return {
        "image_id": hit.image_id,
        "archive": hit.archive,
        "key": hit.key,
        "caption": hit.caption,
        "tag_ids": [tag.id for tag in hit.tags],
        "tags": [tag.name for tag in hit.tags],
        "scores": [tag.score for tag in hit.tags],
    }


def _write_jsonl(rows: Iterator[dict[str, Any]], file: IO[bytes]) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _write_csv(rows: Iterator[dict[str, Any]], file: IO[bytes]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in _COLUMNS])
    text.detach()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = "|".join(str(entry) for entry in value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _write_parquet(rows: Iterator[dict[str, Any]], file: IO[bytes]) -> None:
    import pyarrow as pa  # noqa: PLC0415  (a third of a second, for one format)
    from pyarrow import parquet  # noqa: PLC0415

    schema = pa.schema(
        [
            ("image_id", pa.int64()),
            ("archive", pa.string()),
            ("key", pa.string()),
            ("caption", pa.string()),
            ("tag_ids", pa.list_(pa.int32())),
            ("tags", pa.list_(pa.string())),
            ("scores", pa.list_(pa.float32())),
        ]
    )
    with parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(rows, _ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))

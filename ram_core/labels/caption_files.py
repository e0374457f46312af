"""Captions from files, one at a time: text, CSV, JSON lines, Parquet."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ram_core.errors import VocabularyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEFAULT_COLUMN = "caption"
_ROWS = 4096


def read_captions(path: Path | str, column: str | None = None) -> Iterator[str]:
    """Return the captions of a file, in bounded memory. Empty ones are left out.

    Args:
        path: ``.txt`` with one caption a line; or ``.csv`` with a header, ``.jsonl`` or ``.parquet``, with a column of
            captions. A value there is a text or a list of texts.
        column: that column; default: ``caption``.

    Raises:
        VocabularyError: the file is missing, of another kind, not UTF-8, or has no such column; the message says where.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path, str], Iterator[Any]]] = {
        ".txt": _lines, ".csv": _table, ".jsonl": _objects, ".parquet": _columns,
    }  # fmt: skip
    read = readers.get(path.suffix.lower())
    if read is None:
        raise VocabularyError(f"{path} has no captions that can be read: give a .txt, .csv, .jsonl or .parquet file")
    if read is _lines and column is not None:
        raise VocabularyError(f"{path} has no columns: omit the column, or give a .csv, .jsonl or .parquet file")
    if not path.is_file():
        raise VocabularyError(f"{path} does not exist")
    return _texts(path, read(path, column or DEFAULT_COLUMN))


def _texts(path: Path, values: Iterator[Any]) -> Iterator[str]:
    try:
        for value in values:
            texts = value if isinstance(value, list) else [value]
            yield from (text for text in texts if isinstance(text, str) and text.strip())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise VocabularyError(f"{path} cannot be read: {error}") from error


def _lines(path: Path, _column: str) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as lines:
        yield from lines


def _table(path: Path, column: str) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines)
        if column not in (rows.fieldnames or ()):
            raise _no_column(path, column, list(rows.fieldnames or ()))
        yield from (row[column] for row in rows)


def _objects(path: Path, column: str) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise VocabularyError(f"{path}, line {number}: not valid JSON ({error})") from error
            if not isinstance(fields, dict) or column not in fields:
                raise _no_column(f"{path}, line {number}", column, list(fields) if isinstance(fields, dict) else [])
            yield fields[column]


def _columns(path: Path, column: str) -> Iterator[Any]:
    import pyarrow as pa  # noqa: PLC0415  (a tenth of a second, and for these files only)
    from pyarrow import parquet  # noqa: PLC0415

    try:
        with parquet.ParquetFile(path) as file:
            if column not in file.schema_arrow.names:
                raise _no_column(path, column, list(file.schema_arrow.names))
            for batch in file.iter_batches(_ROWS, columns=[column]):
                yield from batch.column(0).to_pylist()
    except pa.ArrowException as error:
        raise VocabularyError(f"{path} is not valid Parquet: {error}") from error


def _no_column(where: Path | str, column: str, columns: list[str]) -> VocabularyError:
    return VocabularyError(f"{where}: no column {column!r}; the columns are {', '.join(columns) or 'none'} (--column)")

"""Read rows of files that list keys: lines, CSV, JSON lines, Parquet and ORC, plain or gzipped, in bounded memory."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import zlib
from contextlib import suppress
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

from storage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

Row = dict[str, Any]
"""Values by column. Column names are in lower case without underscores."""

KEY_COLUMNS = (
    "key", "uri", "url", "path",
    "filepath", "filename", "file", "imagepath", "imagefile", "image", "imgpath", "img",
    "objectkey", "s3key", "s3uri", "s3path", "imageuri", "imageurl",
)  # fmt: skip
"""The column that names images: the first of these that a file has. The later ones are those of other tools."""
OTHER_COLUMNS = ("bucket", "size", "etag", "lastmodifieddate", "islatest", "isdeletemarker")
_GZIP = b"\x1f\x8b"
_ROWS_AT_ONCE = 10_000


def read_rows(
    path: Path,
    format_: str,
    name: str,
    columns: Sequence[str] | None = None,
    is_wanted: Callable[[str], bool] = lambda _column: False,
) -> Iterator[Row]:
    """Yield the rows of a file that are not empty.

    Args:
        path: the file.
        format_: ``txt``, ``csv``, ``jsonl``, ``parquet`` or ``orc``.
        name: name of the file in messages.
        columns: columns of a CSV without a header; None: they are in its first row.
        is_wanted: which further columns of Parquet and ORC are read, by their normalised names. Other formats have all.

    Raises:
        UsageError: the file is damaged, in another format, not UTF-8, or has no column of keys.
    """
    try:
        if format_ in {"parquet", "orc"}:
            yield from _arrow_rows(path, format_, name, is_wanted)
            return
        with path.open("rb") as raw:
            begins = raw.read(2)
            raw.seek(0)
            binary = gzip.GzipFile(fileobj=raw) if begins == _GZIP else raw
            encoding = "utf-16" if begins in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
            with io.TextIOWrapper(binary, encoding=encoding, newline="" if format_ == "csv" else "\n") as text:
                if format_ == "csv":
                    yield from _csv_rows(text, name, columns)
                elif format_ == "jsonl":
                    yield from _json_rows(text, name)
                else:
                    yield from ({"key": entry} for line in text if (entry := line.rstrip("\r\n")))
    except UnicodeError:
        raise UsageError(f"{name} is not UTF-8 text: save it as UTF-8") from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise UsageError(f"{name} is cut short or damaged: copy it again") from None
    except csv.Error as error:
        raise UsageError(f"{name} is not CSV: {error}") from None


def column_name(text: str) -> str:
    """Return the normalised name of a column: ``IsLatest`` and ``is_latest`` become ``islatest``."""
    return text.strip().lower().replace("_", "").replace(" ", "")


def _csv_rows(text: IO[str], name: str, columns: Sequence[str] | None) -> Iterator[Row]:
    head = "" if columns is not None else text.readline()
    rows = (row for row in csv.reader(chain([head] if head else [], text), delimiter=_delimiter(head)) if any(row))
    if columns is None:
        first = next(rows, None)
        if first is None:
            return
        columns = [column_name(cell) for cell in first]
        if not set(columns) & set(KEY_COLUMNS):
            if len(first) > 1:
                raise UsageError(_no_keys(name, first))
            columns = ["key"]
            yield {"key": first[0]}
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise UsageError(f"{name}, row {number}: {len(row)} values for {len(columns)} columns")
        yield dict(zip(columns, row, strict=True))


def _delimiter(head: str) -> str:
    """Return what parts the columns of a table with this first line: the character that makes most of them.

    Excel writes ; in many countries. A list of keys alone may have any character in its keys, so its first line counts
    only if it names a column of keys.
    """
    found = {}
    for delimiter in (",", ";", "\t", "|"):
        with suppress(csv.Error):
            cells = {column_name(cell) for row in csv.reader([head], delimiter=delimiter) for cell in row}
            if cells & set(KEY_COLUMNS):
                found[delimiter] = len(cells)
    return max(found, key=lambda each: found[each], default=",")


def _no_keys(name: str, columns: Sequence[str]) -> str:
    known = ", ".join(KEY_COLUMNS[:6])
    return (
        f"{name} has no column of keys. Its columns are {', '.join(columns[:20])}: give the one that names images "
        f"one of the names {known}"
    )


def _json_rows(text: IO[str], name: str) -> Iterator[Row]:
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            raise UsageError(f"{name}, line {number}: not valid JSON") from None
        if isinstance(value, str):
            yield {"key": value}
        elif isinstance(value, dict):
            yield {column_name(column): entry for column, entry in value.items()}
        else:
            raise UsageError(f"{name}, line {number}: write a string, or an object with the field key or uri")


def _arrow_rows(path: Path, format_: str, name: str, is_wanted: Callable[[str], bool]) -> Iterator[Row]:
    import pyarrow as pa  # noqa: PLC0415  (takes a third of a second to import, and only two formats need it)
    from pyarrow import orc, parquet  # noqa: PLC0415

    try:
        file = parquet.ParquetFile(path) if format_ == "parquet" else orc.ORCFile(path)
        schema = file.schema_arrow if format_ == "parquet" else file.schema
        # A column of images may have their bytes in it.
        texts = {
            field.name for field in schema if not pa.types.is_binary(field.type) and not pa.types.is_nested(field.type)
        }
        keys = [column for column in schema.names if column_name(column) in KEY_COLUMNS and column in texts]
        if not keys:
            raise UsageError(_no_keys(name, schema.names))
        wanted = [
            column
            for column in schema.names
            if column in keys or (short := column_name(column)) in OTHER_COLUMNS or is_wanted(short)
        ]
        if format_ == "parquet":
            batches = file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted)
        else:
            batches = (file.read_stripe(number, columns=wanted) for number in range(file.nstripes))
        for batch in batches:
            for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                for row in batch.slice(start, _ROWS_AT_ONCE).to_pylist():
                    yield {column_name(column): value for column, value in row.items()}
    except (pa.ArrowException, OSError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"{name} is damaged or not {format_.title()}: {reason[0][:200]}") from None

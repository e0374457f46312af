"""Rows of tables: CSV, TSV, JSON lines, Parquet. One row at a time."""

from __future__ import annotations

import codecs
import csv
import json
import re
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from ram_core.errors import VocabularyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    Row = tuple[int, Mapping[str, Any]]

_ROWS = 4096
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_HALVES = re.compile("[\ud800-\udfff]")
_REST = "\0"  # the values of a row beyond its columns; no file has a column of this name
ENDINGS = (*_DELIMITERS, ".jsonl", ".parquet")


def whole(text: str) -> str:
    """Return a text whose halves of characters (surrogates) are replaced. JSON can spell them; models take none."""
    return text if text.isascii() else _HALVES.sub("\ufffd", text)


def encoding_of(path: Path) -> str:
    """Return the encoding of a text file: UTF-16 if it begins so, as Excel saves "Unicode text"; else UTF-8.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def delimiter_of(header: str, ending: str) -> str:
    """Return what parts the values of a file with this first line. Excel writes ``;`` in many countries."""
    parted = _DELIMITERS[ending]
    return ";" if ending == ".csv" and ";" in header and "," not in header and "\t" not in header else parted


class Table:
    """A file of rows, read in bounded memory. Reading it raises ``VocabularyError`` that says where it is damaged.

    Args:
        path: a file with one of ``ENDINGS``. CSV and TSV have a header.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ending = path.suffix.lower()

    @property
    def has_columns(self) -> bool:
        """Whether all rows have the same columns. Those of JSON lines need not."""
        return self._ending != ".jsonl"

    @property
    def columns(self) -> list[str]:
        """The names of the columns; of JSON lines, those of the first line."""
        with _errors(self.path):
            if self._ending == ".jsonl":
                return list(next(_objects(self.path), (0, {}))[1])
            if self._ending == ".parquet":
                return list(_schema(self.path))
            with self.path.open(encoding=encoding_of(self.path), newline="") as lines:
                return list(self._reader(lines).fieldnames or ())

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """Yield the number of each row, from 1, or of its line in JSON lines, and its values by column.

        Args:
            columns: those that are wanted. Rows may have others.
        """
        names = self.columns if self.has_columns else ()
        for column in columns:
            if names.count(column) > 1:
                raise VocabularyError(f"{self.path} has {names.count(column)} columns {column!r}; rename all but one")
        with _errors(self.path):
            if self._ending == ".jsonl":
                yield from _objects(self.path)
            elif self._ending == ".parquet":
                yield from _columns(self.path, columns)
            else:
                with self.path.open(encoding=encoding_of(self.path), newline="") as lines:
                    yield from self._separated(lines)

    def _reader(self, lines: IO[str]) -> csv.DictReader[str]:
        # Strict: a quote that is never closed would otherwise swallow the rows after it.
        header = lines.readline()
        lines.seek(0)
        return csv.DictReader(lines, delimiter=delimiter_of(header, self._ending), restkey=_REST, strict=True)

    def _separated(self, lines: IO[str]) -> Iterator[Row]:
        reader, number = self._reader(lines), 0
        try:
            for number, row in enumerate(reader, start=1):
                if any(row.pop(_REST, ())):
                    parted = {"\t": "tab", ";": "semicolon"}.get(reader.reader.dialect.delimiter, "comma")
                    raise VocabularyError(
                        f"{self.path}, row {number} has more values than columns; put a text with a {parted} in double "
                        "quotes"
                    )
                yield number, row
        except csv.Error as error:
            raise VocabularyError(
                f"{self.path}, row {number + 1} cannot be read: {_line(error)}; put double quotes around a text that "
                "has one, and write it twice there"
            ) from error


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Say which file cannot be read."""
    try:
        if path.suffix.lower() != ".parquet" and path.is_file() and path.stat().st_size == 0:
            raise VocabularyError(f"{path} is empty")
        yield
    except UnicodeError as error:
        raise VocabularyError(f"{path} is not UTF-8: save the file as UTF-8") from error
    except FileNotFoundError as error:
        raise VocabularyError(f"there is no file {path}") from error
    except (OSError, csv.Error) as error:
        raise VocabularyError(f"{path} cannot be read: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _objects(path: Path) -> Iterator[Row]:
    with path.open(encoding=encoding_of(path)) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise VocabularyError(f"{path}, line {number}: not valid JSON ({error})") from error
            yield number, fields if isinstance(fields, dict) else {}


def _schema(path: Path) -> list[str]:
    import pyarrow as pa  # noqa: PLC0415  (a tenth of a second, and for these files only)
    from pyarrow import parquet  # noqa: PLC0415

    try:
        return list(parquet.read_schema(path).names)
    except pa.ArrowException as error:
        raise VocabularyError(f"{path} is not valid Parquet: {_line(error)}") from error


def _columns(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS, columns=list(columns)):
                for number, row in enumerate(batch.to_pylist(), start=number + 1):  # noqa: B020  (goes on counting)
                    yield number, row
    except pa.ArrowException as error:
        raise VocabularyError(f"{path} is not valid Parquet: {_line(error)}") from error

"""Captions from files, one at a time: text, CSV, TSV, JSON lines, Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ram_core.errors import VocabularyError
from ram_core.labels.tables import ENDINGS, Table, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DEFAULT_COLUMN = "caption"


def read_captions(path: Path | str, column: str | None = None) -> Iterator[str]:
    """Return the captions of a file, in bounded memory. Empty ones are left out, and halves of characters replaced.

    Args:
        path: ``.txt`` with one caption a line; or ``.csv`` or ``.tsv`` with a header, ``.jsonl`` or ``.parquet``, with
            a column of captions. A value there is a text or a list of texts.
        column: that column; default: ``caption``.

    Raises:
        VocabularyError: the file is missing, of another kind, not UTF-8, or has no such column; the message says where.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in (".txt", *ENDINGS):
        raise VocabularyError(
            f"{path} has no captions that can be read: give a .txt, .csv, .tsv, .jsonl or .parquet file"
        )
    if ending == ".txt" and column is not None:
        raise VocabularyError(f"{path} has no columns: omit the column, or give a .csv, .jsonl or .parquet file")
    if not path.is_file():
        raise VocabularyError(f"{path} does not exist")
    return _texts(_lines(path) if ending == ".txt" else _column(Table(path), column or DEFAULT_COLUMN))


def _texts(values: Iterator[Any]) -> Iterator[str]:
    for value in values:
        texts = value if isinstance(value, list) else [value]
        yield from (whole(text) for text in texts if isinstance(text, str) and text.strip())


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            yield from lines
    except (OSError, UnicodeDecodeError) as error:
        raise VocabularyError(f"{path} cannot be read: {error}") from error


def _column(table: Table, column: str) -> Iterator[Any]:
    if table.has_columns and column not in table.columns:
        raise _no_column(table.path, column, table.columns)
    for number, row in table.rows([column]):
        if column not in row:
            raise _no_column(f"{table.path}, line {number}", column, row)
        yield row[column]


def _no_column(where: Path | str, column: str, columns: Iterable[str]) -> VocabularyError:
    return VocabularyError(f"{where}: no column {column!r}; the columns are {', '.join(columns) or 'none'} (--column)")

"""Rows of duplicates and near copies as lines of a file."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Literal

from ramq.services.export import formula_safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from storage.results.copies import CopyRow
    from storage.results.near_views import NearRow

Format = Literal["csv", "jsonl"]
FORMATS: tuple[Format, ...] = ("jsonl", "csv")


def lines_of(
    rows: Iterable[CopyRow] | Iterable[NearRow], kind: type[CopyRow | NearRow], format_: Format
) -> Iterator[str]:
    """Yield the lines of a file, with their ends: one for each row, and in CSV the names of the columns before them.

    In CSV, what a spreadsheet would run as a formula begins with an apostrophe.
    """
    if format_ == "jsonl":
        for row in rows:
            yield json.dumps(_values(row), ensure_ascii=False) + "\n"
        return
    yield _line([field.name for field in fields(kind)])
    for row in rows:
        yield _line([formula_safe(value) for value in _values(row).values()])


def _values(row: CopyRow | NearRow) -> dict[str, Any]:
    values = asdict(row)
    modified_at = values["modified_at"]
    return values | {"modified_at": None if modified_at is None else modified_at.isoformat()}


def _line(values: list[Any]) -> str:
    file = io.StringIO()
    csv.writer(file).writerow(values)
    return file.getvalue()

"""What verbs print: results on stdout, everything else on stderr."""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from ramq.kit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

out = Console(file=None, highlight=False, soft_wrap=False)
err = Console(stderr=True, highlight=False)


def as_data(value: Any) -> Any:
    """Turn views into what JSON knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_data(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): as_data(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_data(entry) for entry in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def print_json(value: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(as_data(value), ensure_ascii=False, indent=2) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; numbers to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    listed = [[shown(cell) for cell in row] for row in rows]
    for index, column in enumerate(columns):
        numeric = bool(listed) and all(
            row[index].replace(",", "").replace(".", "").strip("-%").isdigit() for row in listed
        )
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        table.add_row(*row)
    out.print(table, markup=False)


def shown(value: object) -> str:
    """Return a cell's text. Keys may hold anything: control characters are made visible, markup is not obeyed."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return visible(str(value))


def plural(count: int, one: str) -> str:
    """Return for example ``1 image`` or ``1,234 images``."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def agree(question: str, *, yes: bool) -> None:
    """Ask before something is erased, unless that was agreed to with ``--yes``.

    Raises:
        UsageError: there is nobody to ask.
        typer.Abort: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question.removesuffix('?')}: nobody can be asked here. Say --yes to agree.")
    typer.confirm(question, abort=True, err=True)


def visible(text: str) -> str:
    """Return ``text`` with control, format and undecodable characters written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def duration(seconds: float | None) -> str:
    """Return a length of time as people say it: ``45 s``, ``3 min``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s" if whole % 60 else f"{whole // 60} min"
    minutes = whole // 60
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes % 60 else f"{minutes // 60} h"

"""The output of commands: results on stdout, everything else on stderr."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import typer

from storage.errors import UsageError
from storage.texts import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

_GAP = 2
"""Spaces between columns."""
_LEAST_WIDTH = 12

_WORD_SHOWN = 80
# They stand in JSON only within strings.
_CONTROLS = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_LONG_WORD = re.compile(r"\S{200,}")


@cache
def out() -> Console:
    """Return the console on stdout. Lines are wrapped between words on a terminal, and not at all in a pipe."""
    return _console(is_err=False)


@cache
def err() -> Console:
    """Return the console on stderr."""
    return _console(is_err=True)


def _console(*, is_err: bool) -> Console:
    from rich.console import Console  # noqa: PLC0415  (JSON and tables are written without it)

    stream = sys.stderr if is_err else sys.stdout
    return Console(stderr=is_err, highlight=False, soft_wrap=not stream.isatty())


def as_data(value: Any) -> Any:
    """Turn views into the types that JSON has."""
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
    sys.stdout.write(json_text(as_data(value), indent=2) + "\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON whose characters a terminal prints. JSON itself escapes the older control characters only."""
    return escaped_json(json.dumps(value, ensure_ascii=False, indent=indent))


def escaped_json(text: str) -> str:
    """Return the same JSON with escapes for characters that control a terminal or the direction of its text."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def print_json_items(items: Iterable[Any]) -> None:
    """Print one JSON document with these items, each as soon as it is there."""
    before = '{"items": [\n'
    for item in items:
        sys.stdout.write(before + json_text(as_data(item)))
        before = ",\n"
    sys.stdout.write("\n]}\n" if before == ",\n" else '{"items": []}\n')


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    keep: Sequence[str] = (),
    empty: str = "Nothing to list.",
) -> None:
    """Print rows in columns, with numbers aligned to the right. Without rows, print one line on stderr.

    A pipe gets every column, unwrapped, so that each line is a row. A terminal that is too narrow gets fewer columns
    instead of broken words.

    Args:
        columns: names of the columns.
        rows: cells of each row.
        keep: columns that are shown on the narrowest terminal too, shortened if necessary. The first column always is.
        empty: the line that is printed if there are no rows.
    """
    from rich.cells import cell_len  # noqa: PLC0415

    listed = [[shown(cell) for cell in row] for row in rows]
    if not listed:
        err().print(empty, style="dim")
        return
    widths = [max(cell_len(row[at]) for row in [list(columns), *listed]) for at in range(len(columns))]
    is_number = [all(_looks_like_number(row[at]) for row in listed) for at in range(len(columns))]
    left = list(range(len(columns)))
    if sys.stdout.isatty():
        left = _fitted(columns, widths, keep)
    for row in [list(columns), *listed]:
        cells = (_padded(row[at], widths[at], is_right=is_number[at]) for at in left)
        sys.stdout.write((" " * _GAP).join(cells).rstrip() + "\n")
    if len(left) < len(columns):
        names = ", ".join(name for at, name in enumerate(columns) if at not in left)
        err().print(f"The terminal is too narrow for these columns: {names}.", style="dim", soft_wrap=True)


def _fitted(columns: Sequence[str], widths: list[int], keep: Sequence[str]) -> list[int]:
    """Return the columns that fit on the terminal. If the kept ones do not fit, shorten the widest of them."""
    left = list(range(len(columns)))

    def excess() -> int:
        return sum(widths[at] for at in left) + _GAP * (len(left) - 1) - out().width

    while excess() > 0 and (spare := [at for at in left[1:] if columns[at] not in keep]):
        left.remove(spare[-1])
    if excess() > 0:
        widest = max(left, key=lambda at: widths[at])
        widths[widest] = max(_LEAST_WIDTH, widths[widest] - excess())
    return left


def _padded(cell: str, width: int, *, is_right: bool) -> str:
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415

    if cell_len(cell) > width:
        cell = set_cell_size(cell, width - 1).rstrip() + "…"
    blanks = " " * (width - cell_len(cell))
    return blanks + cell if is_right else cell + blanks


def _looks_like_number(cell: str) -> bool:
    return cell == "-" or cell.replace(",", "").replace(".", "").strip("-%").isdigit()


def shown(value: object) -> str:
    """Return the text of a cell. Keys may contain anything, so control characters are shown as escapes."""
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


def agree(question: str) -> None:
    """Ask for confirmation before something is erased. Not called with ``--yes``.

    Raises:
        UsageError: stdin is not a terminal.
        typer.Abort: the answer is no.
    """
    if not sys.stdin.isatty():
        raise UsageError(f"{question.removesuffix('?')}: cannot ask for confirmation without a terminal; add --yes")
    typer.confirm(question, abort=True, err=True)


def shortened(text: str) -> str:
    """Return a message with its very long words shortened. A path or a number may have thousands of characters."""
    return _LONG_WORD.sub(lambda found: f"{found[0][:_WORD_SHOWN]}… ({len(found[0]):,} characters)", text)


def duration(seconds: float | None) -> str:
    """Return a duration in words: ``45 s``, ``3 min``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s" if whole % 60 else f"{whole // 60} min"
    minutes = whole // 60
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes % 60 else f"{minutes // 60} h"


def file_size(size_bytes: int) -> str:
    """Return a size for people, such as ``12.3 MB``."""
    if size_bytes >= 1_000_000_000:
        return f"{size_bytes / 1e9:.2f} GB"
    if 0 < size_bytes < 100_000:
        return f"{size_bytes / 1e3:.1f} kB"
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes else "-"


def tell_problems(problems: Mapping[int, Sequence[str]], what: str, *, as_json: bool) -> None:
    """Print what a check of an index found in each generation. Exit 1 if that is anything."""
    if as_json:
        print_json({"problems": problems})
    else:
        for generation_id, lines in problems.items():
            for line in lines:
                out().print(f"generation {generation_id}: {visible(line)}", markup=False)
    if any(problems.values()):
        raise typer.Exit(1)
    if not as_json:
        err().print(f"The {what} and the database agree.")

"""``ramq duplicates``: images with the same bytes."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services
from ramq.cli.output import as_data, err, file_size, print_json, print_table
from ramq.cli.search import ArchiveOf, Json  # noqa: TC001  (typer reads the annotations)
from ramq.services.export import formula_safe
from storage.errors import UsageError
from storage.results.copies import CopyRow

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMATS = ("jsonl", "csv")
_KEYS_SHOWN = 3


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(duplicates)


def duplicates(
    archive: ArchiveOf = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500)] = 50,
    cursor: Annotated[str | None, typer.Option(help="next_cursor of the previous page.")] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", help=f"Write all groups to stdout, one image per row: {' or '.join(FORMATS)}."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List groups of images with the same bytes, those with the most images first.

    Images whose originals are missing are left out. Images that were read by an older version of ramq are known once
    their archive was listed again.

    Example: ramq duplicates --archive s3://holiday

    Example: ramq duplicates --format csv > duplicates.csv
    """
    if format_ is not None and format_ not in FORMATS:
        raise UsageError(f"unknown format {format_!r}; choose one of {', '.join(FORMATS)}")
    if format_ is not None and (as_json or cursor):
        raise UsageError("--format writes all groups: omit --json and --cursor")
    with services() as ramq:
        if format_ is not None:
            _write(ramq.duplicates.rows(archive), format_)
            return
        page = ramq.duplicates.page(archive, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    print_table(
        ("images", "size", "first image", "keys"),
        (
            (
                group.count,
                file_size(group.size_bytes),
                str(group.images[0].image_id),
                ", ".join(image.key for image in group.images[:_KEYS_SHOWN])
                + (", …" if group.count > _KEYS_SHOWN else ""),
            )
            for group in page.items
        ),
        keep=("images", "size", "first image"),
        empty="No two images have the same bytes.",
    )
    if page.next_cursor:
        err().print(f"Next page: --cursor {page.next_cursor}", style="dim", soft_wrap=True)


def _write(rows: Iterable[CopyRow], format_: str) -> None:
    if format_ == "jsonl":
        for row in rows:
            sys.stdout.write(json.dumps(as_data(row), ensure_ascii=False) + "\n")
        return
    table = csv.writer(sys.stdout)
    table.writerow(CopyRow.__slots__)
    for row in rows:
        table.writerow([formula_safe(value) for value in as_data(row).values()])

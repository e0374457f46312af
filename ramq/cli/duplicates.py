"""``ramq duplicates``: images with the same bytes, and near copies."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from ramq.cli.context import services
from ramq.cli.output import as_data, err, file_size, print_json, print_table
from ramq.cli.search import ArchiveOf, Json  # noqa: TC001  (typer reads the annotations)
from ramq.services.duplicate_rows import Format, lines_of
from storage.errors import UsageError
from storage.results.copies import CopyRow
from storage.results.lookup import uri_of
from storage.results.near_views import NearRow
from storage.results.nearness import MOST_DISTANCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from ramq.wiring import Services
    from storage.page import Page
    from storage.results.copies import CopyGroup
    from storage.results.near_copies import NearState
    from storage.results.near_views import NearCopyView, NearGroup

FORMATS = get_args(Format)
_KEYS_SHOWN = 3


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(duplicates)


def duplicates(
    archive: ArchiveOf = None,
    near: Annotated[
        bool, typer.Option("--near", help="Near copies instead: resized, compressed again, slightly cropped.")
    ] = False,
    distance: Annotated[
        int | None,
        typer.Option(
            "--distance", metavar="N", min=0, max=MOST_DISTANCE, help="With --near: bits of the hash that may differ."
        ),
    ] = None,
    find: Annotated[
        bool, typer.Option("--find", help="With --near: search for near copies now, before they are listed.")
    ] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500)] = 50,
    cursor: Annotated[str | None, typer.Option(help="next_cursor of the previous page.")] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", help=f"Write all groups to stdout, one image per row: {' or '.join(FORMATS)}."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List groups of images with the same bytes, those with the most images first.

    With --near: groups of near copies, which workers search for from time to time. A note says as of when, and how many
    images are newer.

    If the groups are in several archives, images are named by their URIs.

    Images whose originals are missing are left out. Images that were read by an older version of ramq are known once
    their archive was listed again; near copies of them once they are read again.

    Example: ramq duplicates --archive s3://holiday

    Example: ramq duplicates --near --find

    Example: ramq duplicates --format csv > duplicates.csv
    """
    if format_ is not None and format_ not in FORMATS:
        raise UsageError(f"unknown format {format_!r}; choose one of {', '.join(FORMATS)}")
    if format_ is not None and (as_json or cursor):
        raise UsageError("--format writes all groups: omit --json and --cursor")
    if not near and (find or distance is not None):
        raise UsageError("--find and --distance are about near copies: add --near")
    with services() as ramq:
        if find:
            ramq.duplicates.find_near()
        if format_ is not None:
            _write(ramq, archive, distance, format_, is_near=near)
            return
        if near:
            found = ramq.duplicates.near_page(archive, distance=distance, limit=limit, cursor=cursor)
            _print_near(found, ramq.duplicates.near_state(), as_json=as_json)
            return
        page = ramq.duplicates.page(archive, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    _print_same(page)


def _print_same(page: Page[CopyGroup]) -> None:
    named = _naming(page)
    print_table(
        ("images", "size", "first image", "keys"),
        (
            (
                group.count,
                file_size(group.size_bytes),
                str(group.images[0].image_id),
                named(group),
            )
            for group in page.items
        ),
        keep=("images", "size", "first image"),
        empty="No two images have the same bytes.",
    )
    _print_next(page.next_cursor)


def _print_near(page: Page[NearGroup], state: NearState, *, as_json: bool) -> None:
    if as_json:
        print_json(as_data(page) | {"state": as_data(state)})
        return
    named = _naming(page)
    print_table(
        ("images", "largest", "pixels", "size", "keys"),
        (
            (
                group.count,
                str(group.images[0].image_id),
                _pixels(group.images[0]),
                file_size(group.images[0].size_bytes),
                named(group),
            )
            for group in page.items
        ),
        keep=("images", "largest", "pixels", "size"),
        empty="No groups of near copies." if state.found_at else "Near copies were not searched yet.",
    )
    for note in notes_of(state):
        err().print(note, style="dim", soft_wrap=True)
    _print_next(page.next_cursor)


def notes_of(state: NearState) -> list[str]:
    """Return what the list of near copies does not know, in sentences."""
    if state.found_at is None:
        return ["`ramq duplicates --near --find` searches now. Workers do it when they have read images."]
    notes = [f"As of {state.found_at:%Y-%m-%d %H:%M} UTC, {state.images:,} images compared."]
    if state.newer:
        notes.append(f"{state.newer:,} images are newer: --find searches again.")
    if state.unread:
        notes.append(
            f"{state.unread:,} images have no hash yet: an older version of ramq read them, or they could not be read."
        )
    if state.plain:
        notes.append(f"{state.plain:,} images have too little structure to be compared.")
    if state.common:
        notes.append(f"{state.common:,} images have too many candidates and were not compared with all of them.")
    return notes


def _print_next(cursor: str | None) -> None:
    if cursor:
        err().print(f"Next page: --cursor {cursor}", style="dim", soft_wrap=True)


def _naming(page: Page[CopyGroup] | Page[NearGroup]) -> Callable[[CopyGroup | NearGroup], str]:
    """Return what names the first images of a group: keys or, if the list is of several archives, URIs."""
    are_many = len({image.archive for group in page.items for image in group.images}) > 1

    def named(group: CopyGroup | NearGroup) -> str:
        shown = group.images[:_KEYS_SHOWN]
        names = [uri_of(image.archive, image.key) if are_many else image.key for image in shown]
        return ", ".join(names) + (", …" if group.count > _KEYS_SHOWN else "")

    return named


def _pixels(image: NearCopyView) -> str:
    return f"{image.width} x {image.height}" if image.width else ""


def _write(ramq: Services, archive: str | None, distance: int | None, format_: str, *, is_near: bool) -> None:
    form: Format = "csv" if format_ == "csv" else "jsonl"
    if is_near:
        lines = lines_of(ramq.duplicates.near_rows(archive, distance=distance), NearRow, form)
    else:
        lines = lines_of(ramq.duplicates.rows(archive), CopyRow, form)
    for line in lines:
        sys.stdout.write(line)

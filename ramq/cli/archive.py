"""Commands about archives and their results: archives, export."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services
from ramq.cli.output import err, print_json, print_table
from ramq.cli.search import Json, LikeOf, Query, RelevanceOf, Strict, liking, narrowed, pointing_into, read
from ramq.services.export import FORMATS, LABELS, TABLES, TEXT_FILES, write_labels, write_rows, write_text_files
from storage.errors import UsageError
from storage.search.views import SearchQuery  # noqa: TC001  (the decorator reads the annotations)
from storage.texts import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storage.search.views import Hit


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (archives, export):
        app.command()(command)


def archives(as_json: Json = False) -> None:
    """List the archives with their counts.

    Example: ramq archives
    """
    with services() as ramq:
        found = ramq.archives.list()
    if as_json:
        print_json({"items": found})
        return
    print_table(
        ("archive", "uri", "keys", "recorded", "missing", "since"),
        ((str(a.id), a.uri, a.images, a.recorded, a.missing, a.created_at) for a in found),
        keep=("uri",),
        empty="No archives yet. Add one with `ramq enqueue SOURCE`.",
    )


@narrowed
def export(
    narrow: SearchQuery,
    query: Query = None,
    like: LikeOf = None,
    relevance: RelevanceOf = None,
    format_: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "jsonl",
    with_text: Annotated[bool, typer.Option("--text", help="Add the lines of text in each image.")] = False,
    strict: Strict = False,
) -> None:
    """Write results to stdout, one row per image. A search by text or similarity exports 10,000 images at most.

    The formats hocr and alto are the text in the images: a tar archive with one file per image that was read. yolo is
    the boxes of tags, likewise. coco has boxes and masks where tags were located.

    Memory use does not grow with the number of images.

    Example: ramq export --tag castle --format csv > castles.csv

    Example: ramq export --archive 1 --format alto | tar x -C letters
    """
    _check_format(format_, with_text=with_text)
    with pointing_into(query), services() as ramq:
        asked = liking(ramq, read(ramq, replace(narrow, relevance=relevance), query, is_strict=strict), like)
        made_by, hits = ramq.search.export(asked)
        if asked.text or asked.like is not None:
            hits = _to_the_depth(hits)
        readings = ramq.readings.views
        if format_ == LABELS:
            _report_labels(*write_labels(hits, sys.stdout.buffer, ramq.regions.views))
        elif format_ in TEXT_FILES:
            _report(*write_text_files(hits, format_, sys.stdout.buffer, readings))
        else:
            write_rows(hits, format_, sys.stdout.buffer, made_by, readings if with_text else None, ramq.regions.views)


def _check_format(format_: str, *, with_text: bool) -> None:
    if format_ not in FORMATS:
        raise UsageError(f"unknown format {format_!r}; choose one of {', '.join(FORMATS)}")
    if with_text and format_ not in (*TABLES, *TEXT_FILES):
        raise UsageError(f"{format_} has no place for text; choose one of {', '.join((*TABLES, *TEXT_FILES))}")
    if format_ == "parquet" and sys.stdout.isatty():
        raise UsageError("parquet cannot be written to a terminal; redirect it to a file: > results.parquet")
    if format_ in {LABELS, *TEXT_FILES} and sys.stdout.isatty():
        raise UsageError(f"{format_} files cannot be written to a terminal; unpack them: | tar x -C FOLDER")


def _report(written: int, left_out: int) -> None:
    """Say how many images were written, and how many were not."""
    err().print(f"The text of {plural(written, 'image')} was written.", style="dim", soft_wrap=True)
    if left_out:
        err().print(
            f"{plural(left_out, 'image')} had not been read yet and have no file; `ramq read` reads them.",
            soft_wrap=True,
        )


def _report_labels(written: int, left_out: int) -> None:
    """Say how many images have labels, and how many have not."""
    err().print(f"The regions of {plural(written, 'image')} were written.", style="dim", soft_wrap=True)
    if left_out:
        err().print(f"Tags were not located in {plural(left_out, 'image')}, which have no file.", soft_wrap=True)


def _to_the_depth(hits: Iterator[Hit]) -> Iterator[Hit]:
    """Yield the hits of a ranking. Print a warning if the ranking ended at its limit."""
    from storage.search import query as queries  # noqa: PLC0415  (`--help` needs none of it)

    number = 0
    for hit in hits:
        yield hit
        number += 1
    if number == queries.MAX_OFFSET:
        err().print(
            f"Only the best {number:,} images were exported, the most that a text or a similarity can rank. "
            "To get others, narrow the search by tags or filters, or omit the text or the similarity.",
            soft_wrap=True,
        )

"""Verbs that take results out or away: export, archives."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated

import typer

from ramq.cli.context import services
from ramq.cli.output import print_json, print_table
from ramq.cli.search import Json, Query, RelevanceOf, narrowed, pointing_into
from ramq.export import FORMATS, write_rows
from ramq.kit.errors import UsageError
from storage.language import asking
from storage.views import SearchQuery  # noqa: TC001  (the decorator reads the annotations)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (archives, export):
        app.command()(verb)


def archives(as_json: Json = False) -> None:
    """List the archives with their counts.

    Example: ramq archives
    """
    with services() as ramq:
        found = ramq.archives()
    if as_json:
        print_json({"items": found})
        return
    print_table(
        ("archive", "uri", "keys", "recorded", "missing", "since"),
        ((str(a.id), a.uri, a.images, a.recorded, a.missing, a.created_at) for a in found),
    )


@narrowed
def export(
    narrow: SearchQuery,
    query: Query = None,
    relevance: RelevanceOf = None,
    format_: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "jsonl",
) -> None:
    """Write results to stdout, a row per image, in bounded memory.

    Example: ramq export --tag dog --format csv > dogs.csv
    """
    if format_ not in FORMATS:
        raise UsageError(f"there is no format {format_!r}; formats: {', '.join(FORMATS)}")
    if format_ == "parquet" and sys.stdout.isatty():
        raise UsageError("parquet is not for a terminal: send it to a file with > results.parquet")
    with pointing_into(query):
        asked = asking(replace(narrow, relevance=relevance), query)
        with services() as ramq:
            made_by, hits = ramq.export(asked)
            write_rows(hits, format_, sys.stdout.buffer, made_by)

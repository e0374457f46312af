"""Verbs that take results out or away: export, archives."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ramq.cli.context import services
from ramq.cli.output import print_json, print_table
from ramq.cli.search import (
    AnyTags,
    ArchiveOf,
    JobOf,
    Json,
    NotTags,
    PrefixOf,
    Query,
    RelevanceOf,
    Tags,
    ThresholdOf,
    pointing_into,
    query_of,
)
from ramq.export import FORMATS, write_rows
from ramq.kit.errors import UsageError


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


def export(
    query: Query = None,
    tag: Tags = None,
    any_tag: AnyTags = None,
    not_tag: NotTags = None,
    archive: ArchiveOf = None,
    job: JobOf = None,
    prefix: PrefixOf = None,
    threshold: ThresholdOf = None,
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
        asked = query_of(
            text=query,
            tag=tag,
            any_=any_tag,
            not_=not_tag,
            archive=archive,
            job=job,
            prefix=prefix,
            threshold=threshold,
            relevance=relevance,
        )
        with services() as ramq:
            made_by, hits = ramq.export(asked)
            write_rows(hits, format_, sys.stdout.buffer, made_by)

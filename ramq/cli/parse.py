"""``ramq parse``: the tags that texts name."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ramq.cli.labels import Column, Of, label_errors, vocabulary_of
from ramq.cli.output import err, print_json_items, print_table
from ramq.cli.search import Json  # noqa: TC001  (typer reads the annotations)
from storage.errors import UsageError
from storage.texts import plural

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ram_core.labels import TagParser


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(parse)


def parse(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT…]", help="Texts; - reads lines from stdin.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="F", help="Captions: a .txt, .csv, .jsonl or .parquet file.")
    ] = None,
    column: Column = None,
    vocabulary: Of = None,
    official: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Write a training file (.json) from --file, whose captions have images."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the tags that texts name: id, tag, and the words that name it. Negated ones are left out.

    With --json, memory use does not grow with the number of texts.

    Example: ramq parse "a cat is sleeping on the sofa"

    Example: ramq parse --file captions.csv --column caption --json

    Example: ramq parse --file captions.jsonl --official train.json
    """
    from ram_core.labels import TagParser  # noqa: PLC0415  (`--help` needs none of it)
    from ram_core.labels.caption_files import read_captions  # noqa: PLC0415

    if bool(texts) == (file is not None):
        raise UsageError('give texts or a file: ramq parse "a cat on a sofa", or ramq parse --file captions.txt')
    if column is not None and file is None:
        raise UsageError("--column is a column of a file: give --file as well")
    if official is not None:
        if file is None or column is not None or as_json:
            raise UsageError("--official needs --file, and takes neither --column nor --json")
        _write_official(file, official, vocabulary)
        return
    with label_errors():
        parser = TagParser(vocabulary_of(vocabulary))
        given = read_captions(file, column) if file is not None else _lines(texts or [])
        parsed = (_parsed(parser, text) for text in given)
        if as_json:
            print_json_items(parsed)
            return
        rows = (
            (number, str(tag["id"]), tag["name"], tag["words"])
            for number, each in enumerate(parsed, start=1)
            for tag in each["tags"]
        )
        print_table(("text", "id", "tag", "words"), rows, empty="The texts name no tag of this vocabulary.")


def _write_official(file: Path, to: Path, vocabulary: str | None) -> None:
    """Write data with images and captions as a file of the official training."""
    from ram_core.errors import TrainingError  # noqa: PLC0415
    from ram_core.training.data import open_dataset, write_official  # noqa: PLC0415  (torch)

    with label_errors():
        tags = vocabulary_of(vocabulary)
    try:
        count = write_official(to, open_dataset(file, vocabulary=tags).samples)
    except TrainingError as error:
        raise UsageError(str(error)) from error
    err().print(f"{plural(count, 'image')} in {to}", markup=False, soft_wrap=True)


def _lines(texts: list[str]) -> Iterable[str]:
    for text in texts:
        yield from (line for line in sys.stdin if line.strip()) if text == "-" else (text,)


def _parsed(parser: TagParser, text: str) -> dict[str, Any]:
    text = text.rstrip("\r\n")
    tags = [
        {"id": tag.id, "name": tag.name, "words": text[tag.start : tag.end], "start": tag.start, "end": tag.end}
        for tag in parser.parse(text)
    ]
    return {"text": text, "tags": tags}

"""``ramq vocab``: add vocabularies of your own, and retag recorded images with them."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import Annotated

import typer

from ramq.cli.context import services, settings_for
from ramq.cli.following import wait_for_end
from ramq.cli.output import err, out, print_json, print_table
from ramq.cli.search import ArchiveOf, Json  # noqa: TC001  (typer reads the annotations)

app = typer.Typer(
    no_args_is_help=True, help="Vocabularies: lists of tags of your own.\n\nExample: ramq vocab add birds.txt"
)


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.add_typer(app, name="vocab")


@app.command("list")
def list_vocabularies(as_json: Json = False) -> None:
    """List the vocabularies, and the generations that use each.

    Example: ramq vocab list
    """
    with services() as ramq:
        views = ramq.vocabularies.list()
    if as_json:
        print_json({"items": views})
        return
    print_table(
        ("vocabulary", "name", "tags", "generations"),
        ((str(v.id), v.name, v.tags, ", ".join(map(str, v.generations)) or None) for v in views),
    )


@app.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .txt, .csv, .jsonl or .labels file.")],
    name: Annotated[str | None, typer.Option(help="Name of the vocabulary; default: the file's name.")] = None,
    as_json: Json = False,
) -> None:
    """Add a vocabulary: one name per line, or a table of name, name_zh, threshold, description(s) and synonyms.

    Adding the same tags again with other synonyms changes the synonyms.

    Example: ramq vocab add birds.txt --name birds
    """
    with services() as ramq:
        view = ramq.vocabularies.add(file, name)
    if as_json:
        print_json(view)
        return
    err().print(f"Vocabulary {view.name}: {view.tags:,} tags.", markup=False)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name or number that `ramq vocab list` shows.")],
    as_json: Json = False,
) -> None:
    """Show the tags of a vocabulary.

    Example: ramq vocab show birds
    """
    with services() as ramq:
        view, tags = ramq.vocabularies.show(name)
    if as_json:
        print_json({"vocabulary": view, "tags": tags})
        return
    print_table(
        ("id", "tag", "Chinese", "synonyms", "threshold", "descriptions"),
        (
            (str(t.id), t.name, t.name_zh, ", ".join(t.synonyms) or None, t.threshold, len(t.descriptions or ()))
            for t in tags
        ),
    )


@app.command()
def retag(
    vocabulary: Annotated[str, typer.Option(metavar="NAME", help="A name that `ramq vocab list` shows.")],
    from_generation: Annotated[
        int | None,
        typer.Option("--from", metavar="GENERATION", help="Generation to retag; default: the one in use.", min=1),
    ] = None,
    archive: ArchiveOf = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Skip images whose features are not kept.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit 1 if anything failed.")] = False,
    as_json: Json = False,
) -> None:
    """Retag recorded images with a vocabulary, without reading the archive. Prints the job numbers.

    The results form a new generation. Run `ramq generations use` to search it.

    Example: ramq vocab retag --vocabulary birds --wait
    """
    settings = settings_for()
    with services(settings) as ramq:
        created = ramq.jobs.retag(
            vocabulary, from_generation=from_generation, archive=archive, skip_missing=skip_missing, by=ramq.author
        )
        if not as_json:
            for job in created:
                out().print(job.id)
        if wait:
            created = [wait_for_end(ramq, settings, job.id, is_quiet=as_json) for job in created]
    if as_json:
        print_json({"items": created})
    if wait and any(job.failed or job.state != "done" for job in created):
        raise typer.Exit(1)

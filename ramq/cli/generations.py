"""``ramq generations``: list, use, compare and drop generations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services
from ramq.cli.output import agree, err, out, print_json, print_table
from ramq.cli.search import ArchiveOf, Json  # noqa: TC001  (typer reads the annotations)

if TYPE_CHECKING:
    from storage.results.generation_views import GenerationComparison, GenerationState

app = typer.Typer(
    help="Generations of results: model, weights, vocabulary, preprocessing.\n\nExample: ramq generations",
    invoke_without_command=True,
)


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.add_typer(app, name="generations")


GenerationId = Annotated[
    int, typer.Argument(metavar="ID", help="A number that `ramq generations` shows.", min=1, max=2**15 - 1)
]


@app.callback()
def list_generations(context: typer.Context, as_json: Json = False) -> None:
    """List the generations, and which one search uses; or run one of the commands below.

    Example: ramq generations
    """
    if context.invoked_subcommand is not None:
        return
    with services() as ramq:
        states = ramq.generations.list()
    if as_json:
        print_json({"items": states})
        return
    print_table(
        ("generation", "in use", "model", "vocabulary", "tags", "images", "indexed", "weights", "preprocessing"),
        (
            (
                str(s.id), _serves(s), s.model, s.vocabulary, s.tags, s.images, s.index.vectors_indexed,
                s.weights_sha256[:12], s.preprocessing,
            )
            for s in states
        ),
    )  # fmt: skip


@app.command()
def use(
    generation_id: GenerationId,
    force: Annotated[bool, typer.Option("--force", help="Even if it covers fewer images.")] = False,
    as_json: Json = False,
) -> None:
    """Use a generation for search from now on.

    Example: ramq generations use 2
    """
    with services() as ramq:
        state = ramq.generations.use(generation_id, force=force)
    _say_serving(state, as_json=as_json)


@app.command()
def rollback(as_json: Json = False) -> None:
    """Use the previous generation for search again. Run it a second time to undo it.

    Example: ramq generations rollback
    """
    with services() as ramq:
        state = ramq.generations.rollback()
    _say_serving(state, as_json=as_json)


@app.command()
def compare(
    a: GenerationId,
    b: GenerationId,
    archive: ArchiveOf = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Tags to show, those that changed most first.")] = 30,
    as_json: Json = False,
) -> None:
    """Show which tags the second generation assigns and the first does not, and the other way round.

    Example: ramq generations compare 1 2 --archive s3://holiday
    """
    with services() as ramq:
        comparison = ramq.generations.compare(a, b, archive=archive, limit=limit)
    if as_json:
        print_json(comparison)
        return
    _print_comparison(comparison)


@app.command()
def drop(
    generation_id: GenerationId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Erase everything that a generation recorded: records, vectors, features and its index. The originals stay.

    Example: ramq generations drop 1 --yes
    """
    with services() as ramq:
        if not yes:
            agree(f"Erase everything that generation {generation_id} recorded?")
        report = ramq.generations.drop(generation_id)
    if as_json:
        print_json(report)
        return
    err().print(
        f"Generation {generation_id} was dropped. Erased: {report.records:,} records, {report.vectors:,} vectors, "
        f"{report.features:,} features."
    )


def _serves(state: GenerationState) -> str:
    return "yes" if state.is_default else "before" if state.is_former else "no"


def _say_serving(state: GenerationState, *, as_json: bool) -> None:
    if as_json:
        print_json(state)
        return
    err().print(
        f"Search now uses generation {state.id} ({state.model}, {state.vocabulary}, {state.images:,} images).",
        markup=False,
    )


def _print_comparison(found: GenerationComparison) -> None:
    for side, view, images in (("a", found.a, found.images_a), ("b", found.b, found.images_b)):
        out().print(f"{side}: generation {view.id}, {view.model}, {view.vocabulary}, {images:,} images", markup=False)
    out().print(f"{found.images_both:,} images are in both; the tags of {found.images_changed:,} of them differ.")
    if not found.tags:
        return
    print_table(
        ("tag", "in a", "in b", "kept", "gained", "lost", "gained, for example", "lost, for example"),
        (
            (
                change.name,
                change.count_a if change.is_in_a else None,
                change.count_b if change.is_in_b else None,
                change.kept,
                change.gained,
                change.lost,
                " ".join(map(str, change.gained_images)),
                " ".join(map(str, change.lost_images)),
            )
            for change in found.tags
        ),
    )

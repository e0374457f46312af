"""Commands about the shadow of the index: a second one, which is only compared with the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ramq.cli.context import services
from ramq.cli.output import err, print_json, print_table, tell_problems
from ramq.cli.search import Json  # noqa: TC001  (typer reads the annotations)
from storage.texts import plural

if TYPE_CHECKING:
    from ramq.services.shadow import ShadowClient

shadow = typer.Typer(
    no_args_is_help=True,
    help="A second index, with which searches are compared: see RAMQ_SHADOW_INDEX_URL.\n\n"
    "Example: ramq index shadow status",
)


@shadow.command("status")
def status(as_json: Json = False) -> None:
    """Show how much the shadow has, and how the searches that web servers compared came out.

    Example: ramq index shadow status
    """
    with services() as ramq:
        views, found = ramq.shadow.status(), ramq.shadow.compared().summary()
    if as_json:
        print_json({"items": views, "compared": found})
        return
    print_table(
        ("generation", "stage", "model", "in the shadow", "stored", "delta", "published"),
        (
            (str(v.generation_id), v.stage, v.model, v.vectors_indexed, v.vectors_stored, v.delta, v.published_at)
            for v in views
        ),
    )
    outcomes: dict[str, int] = found.outcomes
    print_table(("searches", "number"), ((name, str(number)) for name, number in outcomes.items()))
    _print_kinds(found.kinds)


def _print_kinds(kinds: dict[str, dict[str, Any]]) -> None:
    names = ("compared", "agreement", "lowest_agreement", "same_total", "score_difference",
             "index_p50_ms", "index_p95_ms", "shadow_p50_ms", "shadow_p95_ms")  # fmt: skip
    print_table(
        ("search by", *(name.replace("_", " ") for name in names)),
        ((kind, *(str(figures[name]) for name in names)) for kind, figures in kinds.items()),
        empty="No search was compared yet.",
    )


@shadow.command("build")
def build(
    again: Annotated[
        bool, typer.Option("--again", help="From the database alone, instead of what is missing.")
    ] = False,
) -> None:
    """Bring the shadow up to date with the database, deletions included. Workers do so by themselves.

    Example: ramq index shadow build
    """
    with services() as ramq:
        ramq.shadow.build(again=again)
        _tell(ramq.shadow)


def _tell(client: ShadowClient) -> None:
    for view in client.status():
        err().print(
            f"generation {view.generation_id} ({view.model}): {view.vectors_indexed:,} of {view.vectors_stored:,} "
            "vectors in the shadow"
        )


@shadow.command("verify")
def verify(as_json: Json = False) -> None:
    """Compare every row of the shadow with the database. Exit 1 if anything is wrong.

    Example: ramq index shadow verify
    """
    with services() as ramq:
        problems = ramq.shadow.verify()
    tell_problems(problems, "shadow", as_json=as_json)


@shadow.command("drop")
def drop() -> None:
    """Delete the shadow, and what was compared. Stop the workers that fill it first, or they fill it again.

    Example: ramq index shadow drop
    """
    with services() as ramq:
        dropped = ramq.shadow.drop()
    err().print(f"{plural(dropped, 'collection or folder', 'collections and folders')} deleted.")

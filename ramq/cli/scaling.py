"""Commands about capacity: backlog, estimate."""

from __future__ import annotations

from typing import Annotated

import typer

from ramq.cli.context import services
from ramq.cli.output import duration, err, print_json, print_table
from ramq.cli.search import Json  # noqa: TC001  (typer reads the annotations)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (backlog,):
        app.command()(command)


def backlog(
    kind: Annotated[
        list[str] | None, typer.Option(help="Only this kind of work: a model or another stage; repeatable.")
    ] = None,
    device: Annotated[str, typer.Option(help="The device that the total is for: cpu, cuda or mps.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Show how much work waits for each kind of worker, and how long one worker needs for it. For autoscalers, too.

    Example: ramq backlog --kind ram_plus --device cuda --json
    """
    with services() as ramq:
        view = ramq.jobs.backlog(kinds=kind or (), device=device)
    if as_json:
        print_json(view)
        return
    print_table(
        ("kind", "priority", "images", "shards", "listings", "device", "images/s", "rate is", "time of one worker"),
        (
            (
                *(item.kind, item.priority, item.images, item.shards, item.listings, each.device),
                *(each.images_per_second, "measured" if each.is_measured else "assumed", duration(each.seconds)),
            )
            for item in view.items
            if item.images or item.listings
            for each in item.devices
        ),
        keep=("kind", "device"),
        empty="Nothing waits.",
    )
    if view.seconds:
        err().print(f"One worker on {view.device} needs {duration(view.seconds)} for all of it.", style="dim")

"""``ramq archives``: the archives and their counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ramq.cli.context import services
from ramq.cli.output import print_json, print_table
from ramq.cli.search import Json  # noqa: TC001  (typer reads the annotations)

if TYPE_CHECKING:
    import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(archives)


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

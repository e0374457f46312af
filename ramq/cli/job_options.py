"""The options of commands that start jobs on an archive, now (``ramq enqueue``) or every so often (``ramq watch``)."""

from __future__ import annotations

from typing import Annotated

import typer

from storage.errors import UsageError
from storage.objects.ignoring import Selection

ModelOf = Annotated[str | None, typer.Option(help="A model of `ramq models list`; default: RAMQ_MODEL.")]
Caption = Annotated[
    bool | None, typer.Option("--caption/--no-caption", help="Write captions too; default: RAMQ_CAPTIONER.")
]
Priority = Annotated[str, typer.Option(help="low, normal or high.")]
OwnTags = Annotated[str | None, typer.Option(metavar="NAME", help="Use your own tags; see `ramq vocab`.")]
Stages = Annotated[str | None, typer.Option(metavar="STAGE,…", help="Further stages: text, look, siglip, clip, dino.")]
Include = Annotated[
    list[str] | None, typer.Option(metavar="PATTERN", help="Only keys that match; as in .gitignore. Repeatable.")
]
Exclude = Annotated[
    list[str] | None, typer.Option(metavar="PATTERN", help="Leave out keys that match. `!` takes back. Repeatable.")
]
Defaults = Annotated[bool, typer.Option("--defaults/--no-defaults", help="Leave out known junk, sidecars and films.")]

Pages = Annotated[bool, typer.Option("--pages", help="Each page of a TIFF or PDF file is an image of its own.")]


def selected(include: list[str] | None, exclude: list[str] | None, *, defaults: bool) -> Selection:
    """Return which keys ``--include``, ``--exclude`` and ``--defaults`` leave."""
    return Selection(tuple(include or ()), tuple(exclude or ()), has_defaults=defaults)


def stages_named(option: str | None) -> list[str]:
    """Return the stages in ``--stages``. Raises ``UsageError`` if it names none."""
    found = [name.strip() for name in (option or "").split(",") if name.strip()]
    if option is not None and not found:
        raise UsageError("--stages names no stage; leave it out, or write --stages text")
    return found

"""``ramq tag``: manual corrections of tags."""

from __future__ import annotations

from typing import Annotated

import typer

from ramq.cli.context import services
from ramq.cli.output import err, print_json
from ramq.cli.search import ArchiveOf, Json  # noqa: TC001  (typer reads the annotations)
from storage.errors import UsageError
from storage.texts import plural


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(tag)


def tag(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE…", help="Numbers, keys or URIs.")],
    add: Annotated[list[str] | None, typer.Option(metavar="T", help="Add this tag; repeatable.")] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="T", help="Remove this tag; repeatable.")] = None,
    reset: Annotated[
        list[str] | None, typer.Option(metavar="T", help="Let the model decide again; repeatable.")
    ] = None,
    archive: ArchiveOf = None,
    as_json: Json = False,
) -> None:
    """Add or remove tags of images. These corrections override every model, in later jobs too.

    Example: ramq tag 12 13 --add castle --remove palace
    """
    if not (add or remove or reset):
        raise UsageError("nothing to change; give --add T, --remove T or --reset T")
    with services() as ramq:
        ids = list(dict.fromkeys(ramq.images.find(image, archive) for image in images))
        hidden = ramq.corrections.tag(ids, add=add or (), remove=remove or (), reset=reset or (), by=ramq.author)
        views = [ramq.images.get(image_id) for image_id in ids] if as_json else []
    for told in hidden:
        err().print(told, markup=False, soft_wrap=True)
    if as_json:
        print_json({"items": views})
        return
    err().print(f"{plural(len(ids), 'image')} updated; see `ramq show IMAGE`.")

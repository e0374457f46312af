"""``ramq missing``: images of which people said something and whose files are not there."""

from __future__ import annotations

from typing import Annotated

import typer

from ramq.cli.context import services
from ramq.cli.output import err, print_json, print_table
from ramq.cli.search import ArchiveOf, Json  # noqa: TC001  (typer reads the annotations)
from storage.errors import UsageError
from storage.texts import plural


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(missing)


def missing(
    image: Annotated[
        str | None, typer.Argument(help="A missing image that continues elsewhere: id, key or URI.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="IMAGE", help="The image that shows the same picture, such as an edited one."),
    ] = None,
    archive: ArchiveOf = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500)] = 50,
    cursor: Annotated[str | None, typer.Option(help="next_cursor of the previous page.")] = None,
    as_json: Json = False,
) -> None:
    """List images of which people said something and whose files are missing, or let one continue at another.

    Nothing that was said is lost with a file. If the same file appears again anywhere in its archive, the image
    continues there by itself.

    Example: ramq missing --archive s3://holiday

    Example: ramq missing 12 --at 345
    """
    if (image is None) != (at is None):
        raise UsageError("name both: the missing image, and with --at where it continues")
    with services() as ramq:
        if image is not None and at is not None:
            number = ramq.images.missing.continue_at(image, at)
            view = ramq.images.get(number)
            if as_json:
                print_json(view)
            else:
                typer.echo(f"image {number} continues at {view.key}")
            return
        page = ramq.images.missing.page(archive, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    print_table(
        ("image", "key", "at its key", "said"),
        (
            (
                str(each.image_id),
                each.key,
                "" if each.at_its_key is None else str(each.at_its_key),
                ", ".join(
                    [
                        *each.added,
                        *(f"not {name}" for name in each.removed),
                        *(f"keyword {word}" for word in each.keywords),
                        *([plural(each.lines, "line")] if each.lines else []),
                        *([plural(each.regions, "region")] if each.regions else []),
                        *([f"in {plural(each.in_datasets, 'data set version')}"] if each.in_datasets else []),
                    ]
                ),
            )
            for each in page.items
        ),
        keep=("image", "key"),
        empty="The file of every image of which people said something is there.",
    )
    if page.next_cursor:
        err().print(f"Next page: --cursor {page.next_cursor}", style="dim", soft_wrap=True)

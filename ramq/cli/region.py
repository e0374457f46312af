"""``ramq region``: manual corrections of where tags are in images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services
from ramq.cli.output import err, print_json
from ramq.cli.regions import print_regions, regions_data
from ramq.cli.search import ArchiveOf, Json  # noqa: TC001  (typer reads the annotations)
from storage.errors import NotFoundError, UsageError
from storage.texts import plural

if TYPE_CHECKING:
    from storage.results.region_views import Box


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(region)


def region(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Number, key or URI of an image.")],
    add: Annotated[str | None, typer.Option(metavar="TAG", help="Draw a region of this tag; needs --box.")] = None,
    box: Annotated[
        str | None,
        typer.Option(
            metavar="LEFT,TOP,RIGHT,BOTTOM", help="Its place in the upright image: fractions 0..1, or all in percent."
        ),
    ] = None,
    reject: Annotated[
        int | None, typer.Option(metavar="N", help="The tag is not there: a region by its number, as shown.", min=1)
    ] = None,
    undo: Annotated[
        int | None, typer.Option(metavar="C", help="Take this correction back, by its number.", min=1)
    ] = None,
    archive: ArchiveOf = None,
    as_json: Json = False,
) -> None:
    """Show where tags are in an image, or correct it. A correction stays when tags are located again.

    Example: ramq region 12

    Example: ramq region 12 --add dog --box 10%,20%,60%,90%

    Example: ramq region 12 --reject 3
    """
    place = _checked(add, box, reject, undo)
    with services() as ramq:
        image_id = ramq.images.find(image, archive)
        if undo is not None:
            ramq.regions.withdraw(image_id, undo)
        elif reject is not None:
            shown = {one.number: one for one in ramq.regions.get(image_id).regions}
            if reject not in shown:
                raise NotFoundError(f"image {image_id} has no region {reject}; it has {plural(len(shown), 'region')}")
            ramq.regions.correct(image_id, shown[reject].tag, shown[reject].box, is_there=False, said_by=ramq.author)
        elif add is not None and place is not None:
            ramq.regions.correct(image_id, add, place, is_there=True, said_by=ramq.author)
        view, said = ramq.regions.get(image_id), ramq.regions.corrections(image_id)
    if as_json:
        print_json(regions_data(view, said))
    elif all(option is None for option in (add, reject, undo)):
        print_regions(view, said)
    else:
        err().print(f"Image {image_id} updated; see `ramq region {image_id}`.")


def _checked(add: str | None, box: str | None, reject: int | None, undo: int | None) -> Box | None:
    """Return the box that is written. Raises ``UsageError`` for options that contradict each other."""
    if sum(option is not None for option in (add, reject, undo)) > 1:
        raise UsageError("--add, --reject and --undo are different corrections; give one of them")
    if (add is None) != (box is None):
        raise UsageError("--add TAG and --box LEFT,TOP,RIGHT,BOTTOM belong together; give both")
    return None if box is None else _box(box)


def _box(text: str) -> Box:
    """Return the box that ``text`` writes. Its numbers are checked when it is stored. Raises ``UsageError``."""
    words = [word.strip() for word in text.split(",")]
    percent = [word.endswith("%") for word in words]
    try:
        left, top, right, bottom = (float(word.removesuffix("%")) for word in words)
    except ValueError:
        percent = []
    if not percent or any(percent) != all(percent):
        raise UsageError(
            f"the box {text!r} is not four numbers; write left, top, right and bottom, for example "
            "0.1,0.2,0.6,0.9 or 10%,20%,60%,90%"
        )
    scale = 100 if percent[0] else 1
    return left / scale, top / scale, right / scale, bottom / scale

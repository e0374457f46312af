"""``ramq line``: manual corrections of the text in images."""

from __future__ import annotations

from typing import Annotated

import typer

from ramq.cli.context import services
from ramq.cli.lines import print_text, text_data
from ramq.cli.output import err, print_json
from ramq.cli.search import ArchiveOf, Json  # noqa: TC001  (typer reads the annotations)
from storage.errors import NotFoundError, UsageError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(line)


def line(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Number, key or URI of an image.")],
    number: Annotated[int | None, typer.Argument(metavar="[LINE]", help="Number of a line, as shown.", min=1)] = None,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="The right text of this line.")] = None,
    none: Annotated[bool, typer.Option("--none", help="There is no text where this line is.")] = False,
    undo: Annotated[
        int | None, typer.Option(metavar="C", help="Take this correction back, by its number.", min=1)
    ] = None,
    archive: ArchiveOf = None,
    as_json: Json = False,
) -> None:
    """Show the lines of text in an image, or correct one. A correction stays when the image is read again.

    Example: ramq line 12

    Example: ramq line 12 3 "GOOD MORNING"

    Example: ramq line 12 --undo 7
    """
    _check(number, text, none=none, undo=undo)
    with services() as ramq:
        image_id = ramq.images.find(image, archive)
        if undo is not None:
            ramq.readings.withdraw(image_id, undo)
        elif number is not None:
            lines = {one.number: one for one in ramq.readings.get(image_id).lines}
            if number not in lines:
                raise NotFoundError(f"image {image_id} has no line {number}; it has {len(lines)}")
            ramq.readings.correct(image_id, lines[number].polygon, text, ramq.author)
        reading, said = ramq.readings.get(image_id), ramq.readings.corrections(image_id)
    if as_json:
        print_json(text_data(reading, said))
        return
    if number is None and undo is None:
        print_text(reading, said)
    else:
        err().print(f"Image {image_id} updated; see `ramq line {image_id}`.")


def _check(number: int | None, text: str | None, *, none: bool, undo: int | None) -> None:
    """Refuse arguments that contradict each other. Raises ``UsageError``."""
    if undo is not None and (number is not None or none):
        raise UsageError("--undo takes only the number of a correction; omit the line, its text and --none")
    if none and (number is None or text is not None):
        raise UsageError("--none takes the number of a line, and no text")
    if number is not None and text is None and not none:
        raise UsageError(f"give the right text of line {number}, or --none if there is no text")

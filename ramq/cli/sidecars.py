"""``ramq sidecars``: what a search finds, as XMP files that other programs read."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from ramq.cli.context import services
from ramq.cli.output import err
from ramq.cli.search import Query, Strict, narrowed, pointing_into, read
from ramq.services.sidecars import Naming, write_sidecars
from storage.errors import UsageError
from storage.search.views import SearchQuery  # noqa: TC001  (the decorator reads the annotations)
from storage.texts import plural, visible

if TYPE_CHECKING:
    from storage.search.views import Hit


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(sidecars)


@narrowed
def sidecars(
    narrow: SearchQuery,
    query: Query = None,
    is_beside: Annotated[
        bool, typer.Option("--beside", help="Write beside the originals, in a folder archive.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write below this folder, under the keys of the images.")
    ] = None,
    naming: Annotated[
        str,
        typer.Option(
            "--names",
            metavar="|".join(get_args(Naming)),
            help="full: IMG_1.NEF.xmp, for digiKam and darktable. lightroom: IMG_1.xmp for camera raw.",
        ),
    ] = "full",
    without_captions: Annotated[
        bool, typer.Option("--no-captions", help="Write no captions of models as descriptions.")
    ] = False,
    strict: Strict = False,
) -> None:
    """Write tags, keywords and captions of what a search finds as XMP sidecars, beside the originals or into a folder.

    A sidecar that is there is brought up to date: words of people and of other programs stay, and tags of an earlier
    run that no longer hold go. Originals are never touched.

    Example: ramq sidecars --archive 1 --beside

    Example: ramq sidecars 'castle archive:1' --out sidecars
    """
    if is_beside == (out is not None):
        raise UsageError("say where the sidecars go: --beside, or --out DIR")
    if naming not in get_args(Naming):
        raise UsageError(f"unknown names {naming!r}; choose one of {', '.join(get_args(Naming))}")
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"the folder {out} cannot be made ({error.strerror}); name another one") from error

    def failed(hit: Hit, why: str) -> None:
        err().print(
            f"left out: image {hit.image_id} ({visible(hit.key)}): {visible(why)}", markup=False, soft_wrap=True
        )

    with pointing_into(query), services() as ramq:
        _, hits = ramq.search.export(read(ramq, narrow, query, is_strict=strict))
        names: Naming = "lightroom" if naming == "lightroom" else "full"
        found = write_sidecars(hits, out, failed, naming=names, with_captions=not without_captions)
    typer.echo(
        f"{plural(found.written, 'sidecar')} written, {found.unchanged:,} up to date, {found.left_out:,} left out"
    )
    if found.left_out:
        raise typer.Exit(1)

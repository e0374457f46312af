"""``ramq sidecars``: what a search finds, as XMP files that other programs read."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from ramq.cli.context import services
from ramq.cli.output import err
from ramq.cli.search import Query, Strict, narrowed, pointing_into, read
from ramq.services.sidecars import Naming, RegionsInFiles, SidecarPlace, write_sidecars
from storage.errors import UsageError
from storage.objects.source import Source, parse_source
from storage.search.views import SearchQuery  # noqa: TC001  (the decorator reads the annotations)
from storage.texts import plural, visible

if TYPE_CHECKING:
    from ramq.services.sidecars import Written
    from storage.search.views import Hit


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(sidecars)


@narrowed
def sidecars(
    narrow: SearchQuery,
    query: Query = None,
    is_beside: Annotated[
        bool, typer.Option("--beside", help="Write beside the originals. Of a bucket, RAMQ_WRITE_ALLOW must name it.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write below this folder, under the keys of the images.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="s3://BUCKET/PREFIX",
            help="Write below this prefix of a bucket, under the keys of the images. RAMQ_WRITE_ALLOW must name it.",
        ),
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
    with_regions: Annotated[
        bool, typer.Option("--regions", help="Also write located boxes as regions (MWG). Reads the start of originals.")
    ] = False,
    strict: Strict = False,
) -> None:
    """Write tags, keywords and captions of what a search finds as XMP sidecars, beside originals or elsewhere.

    A sidecar that is there is brought up to date: words of people and of other programs stay, and tags of an earlier
    run that no longer hold go. Originals are never touched.

    Example: ramq sidecars --archive 1 --beside

    Example: ramq sidecars 'castle archive:1' --out sidecars

    Example: ramq sidecars --archive s3://photos --to s3://photos-sidecars
    """
    if [is_beside, out is not None, to is not None].count(True) != 1:
        raise UsageError("say where the sidecars go: --beside, --out DIR, or --to s3://BUCKET/PREFIX")
    target: Path | Source | None = out
    if to is not None:
        target = parse_source(to)
        if target.scheme != "s3":
            raise UsageError(f"--to takes a bucket, such as s3://bucket/prefix; for a folder, use --out {to}")
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
        place = SidecarPlace(target, ramq.settings.write_allow, ramq.settings.s3, ramq.engine)
        regions_of = RegionsInFiles(ramq.regions, ramq.images) if with_regions else None
        found = write_sidecars(
            hits, place, failed, regions_of=regions_of, naming=names, with_captions=not without_captions
        )
    typer.echo(
        f"{plural(found.written, 'sidecar')} written, {found.unchanged:,} up to date, {found.left_out:,} left out"
    )
    _tell(found)
    if found.left_out:
        raise typer.Exit(1)


def _tell(found: Written) -> None:
    """Say what was left out for reasons that are no failures."""
    if found.further_pages:
        err().print(
            f"{plural(found.further_pages, 'page')} left out: a sidecar is beside a file, and speaks of its first page",
            style="dim",
        )
    if found.without_regions:
        err().print(
            f"{plural(found.without_regions, 'sidecar')} without regions: places are known in JPEG, PNG, TIFF and WebP",
            soft_wrap=True,
        )

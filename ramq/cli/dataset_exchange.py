"""``ramq dataset export`` and ``import``."""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services, settings_for
from ramq.cli.dataset_following import NameAt, Wait, finish_step, reading_sources
from ramq.cli.output import err, print_json
from ramq.cli.search import Json, not_empty
from storage.texts import plural, visible

if TYPE_CHECKING:
    from ramq.services.dataset_pictures import Picture
    from storage.datasets.versions import VersionView

_NOT_IN_NAMES = re.compile(r"[^a-z0-9._-]+")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(export)
    app.command("import")(import_)


def export(
    name: NameAt,
    out_path: Annotated[
        Path, typer.Option("--out", metavar="PATH", help="File to write; folder for webdataset and hf.")
    ],
    format_: Annotated[
        str, typer.Option("--format", metavar="F", help="official, webdataset, coco, parquet, csv or hf.")
    ] = "official",
    split: Annotated[
        str | None, typer.Option(metavar="train|validation", help="Only this split.", callback=not_empty)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write a version of a data set to a file. webdataset and hf are folders with the pictures themselves.

    official is for training, without dropped tags. The others also have origins, dropped tags and their reasons.

    Example: ramq dataset export pets --format parquet --out pets.parquet
    """
    with services() as ramq:

        def failed(picture: Picture, why: str) -> None:
            err().print(
                f"left out: image {picture.image_id} ({visible(picture.key)}): {visible(why)}",
                markup=False,
                soft_wrap=True,
            )

        done = ramq.datasets.export(
            name, format_, out_path, split=split, may_replace=force, fetch=ramq.images.picture, failed=failed
        )
    if as_json:
        print_json({"path": str(out_path), "pictures": done.pictures, "left_out": done.left_out})
    else:
        err().print(f"{plural(done.pictures, 'picture')} written to {visible(str(out_path))}.", markup=False)
    if done.left_out:
        err().print(f"{plural(done.left_out, 'picture')} left out, because the original cannot be read; see above.")
        raise typer.Exit(1)


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".json, .csv, .jsonl, .parquet, .tar, or a folder.")],
    name: Annotated[
        str | None, typer.Option(metavar="N", help="Of the data set; default: the name of FILE.", callback=not_empty)
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(metavar="ROOT", help="URI or folder that paths in FILE begin in.", callback=not_empty),
    ] = None,
    caption_column: Annotated[
        str | None, typer.Option(metavar="C", help="Column of captions.", callback=not_empty)
    ] = None,
    validation: Annotated[
        float, typer.Option(metavar="SHARE", help="Share for validation, if FILE does not tell splits.")
    ] = 0.1,
    near: Annotated[
        float | None,
        typer.Option(metavar="COSINE", help="Pictures at least so similar are in one split; default: 0.9 or 0.97."),
    ] = None,
    vocabulary: Annotated[
        str | None, typer.Option(metavar="V", help="Whose tags FILE has; default: of the generation in use.")
    ] = None,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Make a data set, or its next version, from a file. Its pictures are those of archives that ramq has recognised.

    Reads what `ramq dataset export` writes, and official, COCO, CSV, Parquet, JSON lines and WebDataset of others.

    Example: ramq dataset import birds.json --images s3://photos/birds
    """
    from ramq.services.dataset_views import ImportRequest  # noqa: PLC0415  (`--help` needs none of it)

    settings = settings_for()
    request = ImportRequest(
        name=name or _NOT_IN_NAMES.sub("-", file.stem.lower()).strip("-._"),
        images=images,
        caption_column=caption_column,
        validation=validation,
        near=near,
        vocabulary=vocabulary,
    )
    with services(settings) as ramq:
        with reading_sources():
            version = ramq.datasets.import_(file, request, by=ramq.author)
        if not as_json:
            tell_left_out(version)
        finish_step(ramq, settings, version, wait=wait, as_json=as_json)


def tell_left_out(version: VersionView) -> None:
    """Say on stderr which images and captions are not in a version, and why."""
    left_out = version.counts.get("left_out", {})
    if not left_out:
        return
    told = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in left_out.items())
    names = version.counts.get("left_out_names", [])
    examples = f", for example {visible(', '.join(names[:3]))}" if names else ""
    err().print(f"Left out: {told}{examples}.", style="yellow", markup=False, soft_wrap=True)

"""``ramq export``: what a search finds, as files for other programs."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import IO, TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services
from ramq.cli.output import err
from ramq.cli.search import (
    LikeOf,
    NotLikeOf,
    Query,
    RelevanceOf,
    SpaceOf,
    Strict,
    liking,
    narrowed,
    not_liking,
    pointing_into,
    read,
)
from ramq.exported_rows import write_found
from ramq.services.export import (
    FOLDERS,
    FORMATS,
    LABELS,
    TASKS,
    TEXT_FILES,
    require_place,
    write_folder,
    write_label_studio,
    write_labels,
    write_text_files,
)
from ramq.services.label_studio import check_address, labelling
from ramq.services.shards import library
from ramq.services.written_files import opened
from storage.errors import UsageError
from storage.results.spaces import SPACES
from storage.search.views import SearchQuery  # noqa: TC001  (the decorator reads the annotations)
from storage.texts import plural, visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from ramq.wiring import Services
    from storage.search.query import Match
    from storage.search.views import Hit


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(export)


@narrowed
def export(
    narrow: SearchQuery,
    query: Query = None,
    like: LikeOf = None,
    not_like: NotLikeOf = None,
    space: SpaceOf = None,
    relevance: RelevanceOf = None,
    format_: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "jsonl",
    out_path: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="Write to this file, or new folder, instead of stdout.")
    ] = None,
    with_text: Annotated[bool, typer.Option("--text", help="Add the lines of text in each image.")] = False,
    vectors: Annotated[
        str | None,
        typer.Option(
            metavar="|".join((*SPACES, "text")),
            help="For jsonl and parquet: add the vector of each image in a space.",
        ),
    ] = None,
    image_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="For label-studio: the address of a picture, with {id} or {key} in it."),
    ] = None,
    strict: Strict = False,
) -> None:
    """Write what a search finds, to stdout or to --out. A search by text or similarity exports 10,000 images at most.

    coco and label-studio have boxes and masks where tags were located. yolo is their boxes: a tar archive with one file
    per image. hocr and alto are the text in the images, likewise. webdataset and fiftyone are folders with the pictures
    themselves; they need --out. The other formats have one row per image.

    Memory use does not grow with the number of images.

    Example: ramq export --tag castle --format csv > castles.csv

    Example: ramq export 'count:dog>=1' --format fiftyone --out dogs
    """
    _check(format_, out_path, with_text=with_text, vectors=vectors, image_url=image_url)
    with pointing_into(query), services() as ramq:
        narrow = replace(narrow, relevance=relevance, space=space)
        asked = not_liking(ramq, liking(ramq, read(ramq, narrow, query, is_strict=strict), like), not_like)
        made_by, hits = ramq.search.export(asked)
        if asked.text or asked.like is not None:
            hits = _to_the_depth(hits)
        if format_ in FOLDERS:
            assert out_path is not None
            _write_folder(ramq, hits, format_, out_path)
        elif format_ == TASKS:
            _write_tasks(ramq, hits, out_path, image_url)
        else:
            with _opened(out_path) as file:
                _write(ramq, hits, format_, file, made_by, with_text=with_text, vectors=vectors)


def _check(format_: str, out_path: Path | None, *, with_text: bool, vectors: str | None, image_url: str | None) -> None:
    if format_ not in FORMATS:
        raise UsageError(f"unknown format {format_!r}; choose one of {', '.join(FORMATS)}")
    require_place(format_, with_text=with_text, vectors=vectors)
    if image_url is not None:
        if format_ != TASKS:
            raise UsageError(f"--image-url is for --format {TASKS}; omit it")
        check_address(image_url)
    if format_ == TASKS and out_path is not None and out_path.suffix.lower() == ".xml":
        raise UsageError(f"{out_path} is where the labelling interface goes; name the file of tasks tasks.json")
    if format_ in FOLDERS:
        _check_folder(format_, out_path)
    if out_path is None and sys.stdout.isatty():
        _require_text(format_)


def _require_text(format_: str) -> None:
    """Raise ``UsageError`` for a format that a terminal cannot show."""
    if format_ == "parquet":
        raise UsageError("parquet cannot be written to a terminal; redirect it to a file: > results.parquet")
    if format_ in {LABELS, *TEXT_FILES}:
        raise UsageError(f"{format_} files cannot be written to a terminal; unpack them: | tar x -C FOLDER")


def _check_folder(format_: str, folder: Path | None) -> None:
    """Raise ``UsageError`` unless the format can be written, and there is nothing in this folder."""
    if format_ == "webdataset":
        library()
    if folder is None:
        raise UsageError(f"{format_} is a folder with pictures; name a new folder with --out")
    try:
        is_used = folder.exists() and any(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder} cannot be used ({error.strerror}); name a new folder with --out") from error
    if is_used:
        raise UsageError(f"the folder {folder} is not empty; name a new one with --out")


def _opened(out_path: Path | None) -> AbstractContextManager[IO[bytes]]:
    """Open the file to write to; None: stdout. Raises ``UsageError``."""
    return nullcontext(sys.stdout.buffer) if out_path is None else opened(out_path)


def _write(
    ramq: Services,
    hits: Iterator[Hit],
    format_: str,
    file: IO[bytes],
    made_by: Match | None,
    *,
    with_text: bool,
    vectors: str | None,
) -> None:
    if format_ == LABELS:
        _report_labels(*write_labels(hits, file, ramq.regions.views))
    elif format_ in TEXT_FILES:
        _report(*write_text_files(hits, format_, file, ramq.readings.views))
    else:
        write_found(ramq, (made_by, hits), format_, file, with_text=with_text, vectors=vectors)


def _write_tasks(ramq: Services, hits: Iterator[Hit], out_path: Path | None, image_url: str | None) -> None:
    """Write tasks of Label Studio. Beside a file of tasks comes the labelling interface that they need."""
    with _opened(out_path) as file:
        labels = write_label_studio(hits, file, ramq.regions.views, image_url)
    if out_path is None:
        return
    interface = out_path.with_suffix(".xml")
    with _opened(interface) as file:
        file.write(labelling(labels).encode())
    err().print(f"The labelling interface for these tasks is in {visible(str(interface))}.", markup=False, style="dim")


def _write_folder(ramq: Services, hits: Iterator[Hit], format_: str, folder: Path) -> None:
    """Write a folder with pictures. Name each image whose picture cannot be read, and exit with 1 if there are any."""
    left_out = 0

    def failed(hit: Hit, why: str) -> None:
        nonlocal left_out
        left_out += 1
        err().print(f"left out: image {hit.image_id} ({visible(hit.key)}): {why}", markup=False, soft_wrap=True)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = write_folder(hits, format_, folder, ramq.regions.views, ramq.images.picture, failed)
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be written ({error.strerror}); name another one") from error
    err().print(f"{plural(written, 'image')} written to {visible(str(folder))}.", markup=False, style="dim")
    if left_out:
        err().print(f"{plural(left_out, 'image')} left out, because the original cannot be read; see above.")
        raise typer.Exit(1)


def _report(written: int, left_out: int) -> None:
    """Say how many images were written, and how many were not."""
    err().print(f"The text of {plural(written, 'image')} was written.", style="dim", soft_wrap=True)
    if left_out:
        err().print(
            f"{plural(left_out, 'image')} had not been read yet and have no file; `ramq read` reads them.",
            soft_wrap=True,
        )


def _report_labels(written: int, left_out: int) -> None:
    """Say how many images have labels, and how many have not."""
    err().print(f"The regions of {plural(written, 'image')} were written.", style="dim", soft_wrap=True)
    if left_out:
        err().print(f"Tags were not located in {plural(left_out, 'image')}, which have no file.", soft_wrap=True)


def _to_the_depth(hits: Iterator[Hit]) -> Iterator[Hit]:
    """Yield the hits of a ranking. Print a warning if the ranking ended at its limit."""
    from storage.search import query as queries  # noqa: PLC0415  (`--help` needs none of it)

    number = 0
    for hit in hits:
        yield hit
        number += 1
    if number == queries.MAX_OFFSET:
        err().print(
            f"Only the best {number:,} images were exported, the most that a text or a similarity can rank. "
            "To get others, narrow the search by tags or filters, or omit the text or the similarity.",
            soft_wrap=True,
        )

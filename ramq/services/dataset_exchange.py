"""Export and import of data sets."""

from __future__ import annotations

import errno
import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ramq.services import dataset_export
from ramq.services.dataset_pictures import Content, pictures
from ramq.services.picture_bytes import with_pictures
from ramq.services.shards import library
from ramq.services.written_files import opened
from storage.database import unit_of_work
from storage.datasets import sources
from storage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from ramq.services.dataset_pictures import Picture
    from ramq.services.picture_bytes import Fetch
    from storage.datasets.versions import VersionView
    from storage.results.tags import Names

MARKER = ".ramq-dataset.json"
"""Says in a folder that an export wrote it, and of which version."""
SPLITS = {None: None, "train": False, "validation": True}


@dataclass(frozen=True, slots=True)
class Exported:
    """How many pictures were written, and how many were left out since their files cannot be read."""

    pictures: int
    left_out: int


def check(format_: str, split: str | None, out: Path, *, may_replace: bool) -> None:
    """Raise ``UsageError`` if a version cannot be exported like this."""
    if format_ not in dataset_export.FORMATS:
        raise UsageError(f"unknown format {format_!r}; choose one of {', '.join(dataset_export.FORMATS)}")
    if split not in SPLITS:
        raise UsageError(f"unknown split {split!r}; choose train or validation")
    if format_ == "webdataset":
        library()
    is_folder = format_ in dataset_export.FOLDERS
    if out.is_symlink():
        raise UsageError(f"{out} is a link, which an export would replace; give --out the path that it leads to")
    if out.exists() and out.is_dir() != is_folder:
        raise UsageError(f"{out} is {'no folder' if is_folder else 'a folder'}; give another --out")
    is_used = any(out.iterdir()) if out.is_dir() else out.exists()
    if is_used and not may_replace:
        raise UsageError(f"{out} is there already; give another --out, or --force to replace it")
    if is_used and is_folder and not _is_export(out):
        raise _not_an_export(out)


def _not_an_export(out: Path) -> UsageError:
    return UsageError(f"{out} has other files than an export, which --force does not delete; give another --out")


def _is_export(folder: Path) -> bool:
    """Return whether an export wrote a folder, and nobody put anything else there."""
    files = {path.name: path for path in folder.rglob("*") if not path.is_dir()}
    return (folder / MARKER).is_file() and all(
        path.suffix in {".tar", ".parquet"} for name, path in files.items() if name != MARKER
    )


def export(  # noqa: PLR0913  (what is written, and how)
    engine: Engine,
    version: VersionView,
    names: Names,
    format_: str,
    out: Path,
    *,
    split: str | None,
    may_replace: bool,
    parse: Callable[[str], list[int]],
    fetch: Fetch,
    failed: Callable[[Picture, str], None],
) -> Exported:
    """Write a version to a file, or to a folder with the pictures. It is complete, or not there. See ``check``.

    What appears there meanwhile is never replaced without ``may_replace``, and a folder only if it is an export.

    Raises:
        UsageError: it cannot be written.
    """
    with unit_of_work(engine) as session:
        content = Content(
            version,
            names,
            sources.most_captions(session, version.id),
            len(sources.places_of(session, version.id)) == 1,
        )
    found = pictures(engine, content, is_validation=SPLITS[split])
    left_out = 0

    def count(picture: Picture, why: str) -> None:
        nonlocal left_out
        left_out += 1
        failed(picture, why)

    if format_ in dataset_export.FILES:
        with opened(out, may_replace=may_replace) as file:
            return Exported(dataset_export.write_file(found, format_, file, content, parse), 0)
    with _folder(out, may_replace=may_replace) as folder:
        pictured = (
            (picture, body) for picture, _, body in with_pictures(((each, None) for each in found), fetch, count)
        )
        written = dataset_export.write_folder(pictured, format_, folder, content)
        about = {"name": version.name, "version": version.number, "sha256": version.sha256}
        (folder / MARKER).write_text(json.dumps(about) + "\n")
    return Exported(written, left_out)


@contextmanager
def _folder(out: Path, *, may_replace: bool) -> Iterator[Path]:
    waiting = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        waiting.mkdir(parents=True)
        yield waiting
        if may_replace and out.exists():
            _replace(out, waiting)
        else:
            waiting.rename(out)  # fails if there is anything
    except OSError as error:
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
            raise UsageError(
                f"{out} appeared while it was to be written; give another --out, or --force to replace an export"
            ) from error
        raise UsageError(f"{out} cannot be written ({error.strerror}); give another --out") from error
    finally:
        shutil.rmtree(waiting, ignore_errors=True)


def _replace(out: Path, by: Path) -> None:
    """Put a folder in the place of an export. What others put there meanwhile stays."""
    aside = out.with_name(f".{out.name}.{os.getpid()}.old")
    out.rename(aside)
    if not aside.is_dir() or (any(aside.iterdir()) and not _is_export(aside)):
        aside.rename(out)
        raise _not_an_export(out)
    try:
        by.rename(out)
    except OSError:
        aside.rename(out)
        raise
    shutil.rmtree(aside)

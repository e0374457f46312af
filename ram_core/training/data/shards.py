"""Shards of WebDataset: tar files with a picture and its captions under the same name, one after the other.

They are indexed once, when they are opened, and pictures are then read from where they are. So batches are in the same
order as with other files, and a training can begin anywhere.
"""

from __future__ import annotations

import glob
import json
import os
import re
import tarfile
from array import array
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ram_core.errors import ImageError, TrainingError
from ram_core.training.data.dataset import Source, has_content
from ram_core.training.data.pictures import MAX_BYTES
from ram_core.training.data.sidecars import ENDINGS, MAX_TEXT_BYTES, lines
from ram_core.training.data.tables import described

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ram_core.training.data.dataset import Sample
    from ram_core.training.data.describing import Describer

KIND = "webdataset"
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_SHARDS = 1_000_000


def expanded(pattern: str) -> list[Path]:
    """Return the files that a pattern means: ``train-{000..127}.tar``, ``{a,b}.tar``, ``train-*.tar``.

    Raises:
        TrainingError: there is none, or one that braces name is missing.
    """
    parts = _BRACES.split(pattern)
    choices = [[part] if at % 2 == 0 else _choices(part, pattern) for at, part in enumerate(parts)]
    found: list[Path] = []
    for name in map("".join, product(*choices)):
        matching = sorted(glob.glob(name)) if glob.has_magic(name) else [name]  # noqa: PTH207  (absolute patterns too)
        missing = not matching or not os.path.exists(matching[0])  # noqa: PTH110  (Path.exists raises for long names)
        if missing:
            raise TrainingError(f"{name} does not exist; give a file, a folder, or a pattern of shards")
        found += map(Path, matching)
    return found


def _choices(part: str, pattern: str) -> list[str]:
    if span := _RANGE.fullmatch(part):
        first, last = span.groups()
        count = int(last) - int(first) + 1
        if not 0 < count <= _MOST_SHARDS:
            raise TrainingError(f"{{{part}}} in {pattern} is no range of shards; write {{000..127}}")
        return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return part.split(",")


class _Member(NamedTuple):
    """A picture in a shard."""

    ending: str
    offset: int
    size_bytes: int


def open_shard(path: Path, describer: Describer) -> Source:
    """Return the pictures of a shard."""
    places = array("Q")  # offset and size of each picture, in turn

    def read(number: int, _name: str) -> bytes:
        offset, size = places[2 * number : 2 * number + 2]
        if size > MAX_BYTES:
            raise ImageError(f"it has {size:,} bytes, more than the limit of {MAX_BYTES:,}")
        try:
            with path.open("rb") as file:
                file.seek(offset)
                body = file.read(size)
        except OSError as error:
            raise TrainingError(f"{path} cannot be read ({error.strerror}); bring it back, and resume") from error
        if len(body) < size or not body:
            raise ImageError("it is empty" if not size else "its shard is cut short")
        return body

    return Source(str(path), KIND, _samples(path, describer, places), read)


def _samples(path: Path, describer: Describer, places: array[int]) -> Iterator[Sample]:
    try:
        with tarfile.open(path, "r:") as archive:
            for key, picture, texts in _groups(path, archive):
                sample = described(
                    _row(texts, f"{path}, {key}"), f"{path.name}/{key}.{picture.ending}", describer, f"{path}, {key}"
                )
                if has_content(sample):
                    places.extend((picture.offset, picture.size_bytes))
                yield sample
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:  # headers may say anything
        raise TrainingError(
            f"{path} is no whole tar file ({error}); unpack it if it is compressed, or fetch it again"
        ) from error


def rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each picture of a shard, without its ending, and what the files beside it say.

    Raises:
        TrainingError: it is no whole tar file, or a text in it is damaged.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            for key, _, texts in _groups(path, archive):
                yield key, _row(texts, f"{path}, {key}")
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        raise TrainingError(f"{path} is no whole tar file ({error}); unpack it, or fetch it again") from error


def _groups(path: Path, archive: tarfile.TarFile) -> Iterator[tuple[str, _Member, dict[str, bytes]]]:
    """Yield what has the same name: key, picture, and the other files by their ending. Pictures without are skipped."""
    key, picture, texts = "", None, dict[str, bytes]()
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # tarfile remembers all, and there may be millions
        if not member.isreg() or member.issparse() or member.size < 0:
            continue
        folder, slash, file = member.name.rpartition("/")
        stem, _, ending = file.partition(".")
        ending = ending.lower()
        if folder + slash + stem != key:
            if picture is not None:
                yield key, picture, texts
            key, picture, texts = folder + slash + stem, None, {}
        if ending in ENDINGS and picture is None:
            picture = _Member(ending, member.offset_data, member.size)
        elif ending in {"txt", "json"}:
            if member.size > MAX_TEXT_BYTES:
                raise TrainingError(f"{path}, {member.name} has {member.size:,} bytes; captions have at most 1 MiB")
            content = archive.extractfile(member)
            texts[ending] = b"" if content is None else content.read()
    if picture is not None:
        yield key, picture, texts


def _row(texts: dict[str, bytes], where: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if "json" in texts:
        try:
            row = json.loads(texts["json"])
        except (ValueError, RecursionError) as error:
            raise TrainingError(f"{where}.json is not valid JSON: {error}") from error
        if not isinstance(row, dict):
            raise TrainingError(f"{where}.json is no object; give one with caption or tags")
    if "txt" in texts:
        row = {"captions": lines(texts["txt"], f"{where}.txt"), **{key: row[key] for key in row if key != "captions"}}
    return row

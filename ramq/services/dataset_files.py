"""Files that say something of pictures: captions, tags, splits. Read one picture at a time.

The forms are those that trainings read (``ram_core.training.data``), and those that data sets are exported in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ram_core.errors import TrainingError, VocabularyError
from ram_core.labels.tables import ENDINGS, Table, whole
from storage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

MAX_SIDECAR_BYTES = 1 << 20
NAME_COLUMNS = ("uri", "url", "key", "image_path", "image", "file_name", "filename", "filepath", "path", "file")
"""The columns that name pictures, in this order."""


@dataclass(frozen=True, slots=True)
class ToldTag:
    """A tag of a picture by its name, or its id in the vocabulary; see ``storage.datasets.labels.Label``."""

    name: str | int
    origins: Sequence[str] = ("given",)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a file says of a picture.

    Attributes:
        name: a URI, a key or a path.
        captions: its captions.
        origins: where each is from.
        tags: its tags; None: the file has none of any picture.
        is_validation: its split; None: the file does not say.
    """

    name: str
    captions: Sequence[str] = ()
    origins: Sequence[str] = ()
    tags: Sequence[ToldTag] | None = None
    is_validation: bool | None = None


def is_caption(column: str, named: str | None) -> bool:
    """Return whether a column has captions: the ``named`` one, or if none is named, by what it is called."""
    from ram_core.training.data.tables import CAPTION_COLUMN, OTHER_CAPTIONS  # noqa: PLC0415  (torch)

    if named is not None:
        return column == named
    return column.lower() in OTHER_CAPTIONS or CAPTION_COLUMN.fullmatch(column) is not None


def captions_of(row: Mapping[str, Any], named: str | None) -> list[str]:
    """Return the captions of a row, each once. Columns called text or title count only if no other has captions."""
    from ram_core.training.data.tables import CAPTION_COLUMN  # noqa: PLC0415  (torch)

    columns = [column for column in row if is_caption(column, named)]
    best = [column for column in columns if column == named or CAPTION_COLUMN.fullmatch(column)] or columns
    values = [row[column] for column in best]
    texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
    return list(dict.fromkeys(whole(text).strip() for text in texts if isinstance(text, str) and text.strip()))


def sidecar_captions(key: str, body: bytes) -> list[str]:
    """Return the captions in a file beside a picture: one a line of ``.txt``, or ``caption`` of ``.json``.

    Raises:
        UsageError: the file is not valid.
    """
    from ram_core.training.data.sidecars import lines  # noqa: PLC0415  (torch)

    try:
        if not key.endswith(".json"):
            return lines(body, key)
        row = json.loads(body)
    except (TrainingError, ValueError, RecursionError) as error:
        raise UsageError(f"{key} cannot be read: {error}") from error
    return captions_of(row, None) if isinstance(row, dict) else []


def read(path: Path, column: str | None = None) -> Iterator[Told]:
    """Return what a file says of pictures.

    Args:
        path: ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` with a column of ``NAME_COLUMNS`` and one of captions; the
            official ``.json``; captions in COCO's format.
        column: the column of captions. None: found by its name.

    Raises:
        UsageError: it is missing, damaged, of another kind, or has no such columns.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    ending = path.suffix.lower()
    if ending in ENDINGS:
        return _rows(path, column)
    if ending == ".json":
        return _official(path) if _begins(path) == "[" else _coco(path)
    raise UsageError(f"{path} has no captions that can be read; give .json, {', '.join(ENDINGS)}")


def _rows(path: Path, column: str | None) -> Iterator[Told]:
    try:
        table = Table(path)
        names = table.columns
        by_name = {each.lower(): each for each in names}
        key = next((by_name[each] for each in NAME_COLUMNS if each in by_name), None)
        if key is None:
            raise UsageError(f"{path} has no column of images; name one of {', '.join(names) or 'none'} uri or key")
        captions = [each for each in names if is_caption(each, column)]
        if column is not None and not captions:
            raise UsageError(f"{path} has no column {column!r}; its columns are {', '.join(names)}")
        for number, row in table.rows([key, *captions]):
            if not isinstance(row.get(key), str) or not row[key]:
                raise UsageError(f"{path}, row {number} has no {key!r}; give each row a picture, or leave it out")
            texts = captions_of(row, column)
            yield Told(row[key], texts, ["given"] * len(texts))
    except VocabularyError as error:
        raise UsageError(str(error)) from error


def _official(path: Path) -> Iterator[Told]:
    from ram_core.training.data.official import entries  # noqa: PLC0415  (torch)

    try:
        for number, (line, entry) in enumerate(entries(path), start=1):
            name = entry.get("image_path") if isinstance(entry, dict) else None
            if not isinstance(name, str):
                raise UsageError(f'{path}, entry {number} (line {line}) has no "image_path"')
            texts = captions_of({"caption": entry.get("caption")}, None)
            union = entry.get("union_label_id") or []
            parsed = {tag for each in entry.get("parse_label_id") or [] for tag in each}
            tags = [
                ToldTag(tag, [origin for origin, is_so in _given(tag, union, parsed) if is_so])
                for tag in sorted({*union, *parsed})
            ]
            yield Told(name, texts, ["given"] * len(texts), tags)
    except (TrainingError, TypeError) as error:
        raise UsageError(f"{path} is not of the official training: {error}") from error


def _given(tag: int, union: Sequence[int], parsed: set[int]) -> list[tuple[str, bool]]:
    return [("given", tag not in parsed or tag not in union), ("parsed", tag in parsed)]


def _coco(path: Path) -> Iterator[Told]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        pictures = {str(each["id"]): str(each["file_name"]) for each in content["images"]}
        captions: dict[str, list[str]] = {}
        for each in content["annotations"]:
            if isinstance(each.get("caption"), str):
                captions.setdefault(str(each["image_id"]), []).append(each["caption"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path} is not in COCO's format: {error}") from error
    for own, name in pictures.items():
        texts = captions_of({"caption": captions.get(own, [])}, None)
        yield Told(name, texts, ["given"] * len(texts))


def _begins(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.read(1 << 10).lstrip()[:1]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error

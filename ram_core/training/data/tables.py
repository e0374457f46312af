"""Tables with a column of images and columns of captions or tags."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ram_core.errors import TrainingError, VocabularyError
from ram_core.labels.tables import Table
from ram_core.training.data.dataset import Source
from ram_core.training.data.official import sample_of
from ram_core.training.data.pictures import PictureFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ram_core.training.data.dataset import Sample
    from ram_core.training.data.describing import Describer

IMAGE_COLUMNS = ("image_path", "image", "file_name", "filename", "filepath", "path", "file", "key")
CAPTION_COLUMN = re.compile(r"captions?([_ ]?\d+)?", re.IGNORECASE)
OTHER_CAPTIONS = ("text", "title")
"""Columns of captions where none is named so."""
TAG_COLUMN = "tags"
_OFFICIAL = ("parse_label_id", "union_label_id")


def open_table(path: Path, describer: Describer, images: Path | None = None) -> Source:
    """Return the images of a table. Its pictures are below ``images``; default: the folder that it is in.

    Raises:
        TrainingError: it has no column of images, or none of captions or tags.
    """
    folder = PictureFolder(images if images is not None else path.parent)
    try:
        names = Table(path).columns
    except VocabularyError as error:
        raise TrainingError(str(error)) from error
    image = next((each for each in IMAGE_COLUMNS if each in names), None)
    if image is None:
        raise TrainingError(
            f"{path} has no column of images; name one of its columns ({', '.join(names) or 'none'}) image_path"
        )
    if not any(is_told(each) for each in names):
        raise TrainingError(
            f"{path} has no column of captions or tags; name one of its columns ({', '.join(names)}) caption or tags"
        )
    samples = folder.checked(_samples(path, image, names, describer, folder))
    return Source(str(path), path.suffix.lower()[1:], samples, lambda _number, name: folder.read(name))


def is_told(column: str) -> bool:
    """Return whether a column says something of an image."""
    return column in (TAG_COLUMN, *_OFFICIAL, *OTHER_CAPTIONS) or CAPTION_COLUMN.fullmatch(column) is not None


def described(row: Mapping[str, Any], name: str, describer: Describer, where: str) -> Sample:
    """Return the sample of a row: captions from their columns, and tags by name or id from ``tags``.

    Raises:
        TrainingError: a tag is unknown, or a value is of the wrong kind.
    """
    columns = [each for each in row if CAPTION_COLUMN.fullmatch(each)]
    values = [row[each] for each in columns or OTHER_CAPTIONS if each in row]
    texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
    texts = [text.strip() if isinstance(text, str) else "" for text in texts]
    captions = list(dict.fromkeys(text for text in texts if text))
    if any(row.get(column) is not None for column in _OFFICIAL):
        try:
            return sample_of({**row, **_parsed(row, texts, captions)}, name, describer)
        except ValueError as error:
            raise TrainingError(f"{where}: {error}") from error
    tags = row.get(TAG_COLUMN)
    if isinstance(tags, str):
        tags = [each.strip() for each in tags.split("|" if "|" in tags else ",") if each.strip()]
    if tags is not None and not isinstance(tags, list):
        raise TrainingError(f'{where}: "tags" is {tags!r}; give a list of names or ids, or names parted by |')
    return describer.sample(name, captions, describer.ids(tags or [], where))


def _parsed(row: Mapping[str, Any], texts: list[str], captions: list[str]) -> dict[str, Any]:
    """Return the captions of a row and their tags, which may be given for blank and repeated texts as well."""
    parsed = row.get("parse_label_id")
    if not isinstance(parsed, list) or len(parsed) == len(captions):
        return {"caption": captions}
    if len(parsed) != len(texts):
        return {"caption": texts}
    pairs = [(text, ids) for text, ids in zip(texts, parsed, strict=True) if text]
    return {"caption": [text for text, _ in pairs], "parse_label_id": [ids for _, ids in pairs]}


def _samples(path: Path, image: str, names: list[str], describer: Describer, folder: PictureFolder) -> Iterator[Sample]:
    wanted = [image, *(each for each in names if is_told(each) and each != image)]
    try:
        for number, row in Table(path).rows(wanted):
            where = f"{path}, {'line' if path.suffix.lower() == '.jsonl' else 'row'} {number}"
            name = row.get(image)
            if not isinstance(name, str) or not name:
                raise TrainingError(f"{where} has no {image!r}; give each row a picture, or leave it out")
            yield described(row, folder.name(name, where), describer, where)
    except VocabularyError as error:
        raise TrainingError(str(error)) from error

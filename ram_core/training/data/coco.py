"""Captions in COCO's format: one JSON object with ``images`` and ``annotations``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ram_core.errors import TrainingError
from ram_core.training.data.dataset import Source
from ram_core.training.data.pictures import PictureFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ram_core.training.data.dataset import Sample
    from ram_core.training.data.describing import Describer

KIND = "coco"


def open_coco(path: Path, describer: Describer, images: Path | None = None) -> Source:
    """Return the images of a file. Its pictures are below ``images``; default: the folder that it is in.

    The file is in memory until its images are read.

    Raises:
        TrainingError: it is not valid, or has no captions.
    """
    folder = PictureFolder(images if images is not None else path.parent)
    try:
        with path.open(encoding="utf-8-sig") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise TrainingError(f"{path} is not valid JSON: {error}") from error
    pictures, annotations = (_objects(path, content, key) for key in ("images", "annotations"))
    ids = _ids(path, pictures)
    captions: dict[str, list[str]] = {}
    for number, each in enumerate(annotations, start=1):
        if "caption" not in each:
            continue
        where, owner = f"{path}, annotation {number}", str(each.get("image_id"))
        if not isinstance(each["caption"], str):
            raise TrainingError(f"{where}: its caption is no text; give one, or leave the annotation out")
        if owner not in ids:
            raise TrainingError(f"{where} is of image {owner}, which the file does not have; add it, or leave this out")
        captions.setdefault(owner, []).append(each["caption"].strip())
    if not captions:
        raise TrainingError(f'{path} has no annotation with a "caption"; give captions, not boxes')
    samples = folder.checked(_samples(path, pictures, captions, describer, folder))
    return Source(str(path), KIND, samples, lambda _number, name: folder.read(name))


def _objects(path: Path, content: Any, key: str) -> list[dict[str, Any]]:
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise TrainingError(f'{path} has no list "{key}"; give COCO captions, or the list of the official training')
    return found


def _ids(path: Path, pictures: list[dict[str, Any]]) -> set[str]:
    ids: set[str] = set()
    for number, picture in enumerate(pictures, start=1):
        if picture.get("id") is None:
            raise TrainingError(f'{path}, image {number} has no "id"; give each image its own')
        if (own := str(picture["id"])) in ids:
            raise TrainingError(f"{path}, image {number} has the id {own} of another one; give each image its own")
        ids.add(own)
    return ids


def _samples(
    path: Path,
    pictures: list[dict[str, Any]],
    captions: dict[str, list[str]],
    describer: Describer,
    folder: PictureFolder,
) -> Iterator[Sample]:
    for number, picture in enumerate(pictures, start=1):
        where = f"{path}, image {number}"
        if not isinstance(picture.get("file_name"), str):
            raise TrainingError(f'{where} has no "file_name"; give each image one')
        yield describer.sample(folder.name(picture["file_name"], where), captions.get(str(picture["id"]), ()))

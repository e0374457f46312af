"""Regions in the forms of other programs: annotations of COCO, labels of YOLO, and a picture with boxes drawn on it."""

from __future__ import annotations

import io
import tarfile
from typing import IO, TYPE_CHECKING, Any

from ramq.services.reading_files import Picture, file_name
from storage.results.masks import Mask
from storage.texts import fold

if TYPE_CHECKING:
    from collections.abc import Iterable

    from storage.results.region_views import Box, RegionsView, RegionView
    from storage.search.views import Hit


class Classes:
    """Numbers of tags by name, from 0. A name that is new gets the next number.

    Args:
        names: known names; of several equal ones, the first counts.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = list(names)
        self._numbers: dict[str, int] = {}
        for number, name in enumerate(self.names):
            self._numbers.setdefault(fold(name), number)

    def number(self, name: str) -> int:
        """Return the number of a name."""
        folded = fold(name)
        if folded not in self._numbers:
            self._numbers[folded] = len(self.names)
            self.names.append(name)
        return self._numbers[folded]


def coco_annotation(region: RegionView, size: tuple[int, int]) -> dict[str, Any]:
    """Return what COCO says of a region: ``bbox`` (left, top, width, height), ``area``, and the mask if there is one.

    Args:
        region: the region.
        size: width and height of the image in pixels, in which everything is given.
    """
    width, height = size
    left, top, right, bottom = region.box
    box = [left * width, top * height, (right - left) * width, (bottom - top) * height]
    found: dict[str, Any] = {"bbox": [round(number, 2) for number in box], "iscrowd": 0}
    if region.mask is None:
        return found | {"area": round(box[2] * box[3], 2)}
    mask = Mask.from_bytes(region.mask).resized(height, width)
    area = round(mask.share() * height * width)
    return found | {"area": area, "segmentation": mask.coco(), "mask_quality": region.mask_quality}


def write_yolo(hits: Iterable[tuple[Hit, RegionsView | None]], file: IO[bytes]) -> tuple[int, int]:
    """Write a tar archive with a file of labels for each hit that was located, and ``classes.txt`` as its last file.

    A line of ``labels/12000/12345-dog.txt`` is a region: number of the class, then middle (x, y), width and height of
    its box as fractions of the image. Line n of ``classes.txt``, from 0, is the name of class n. An image without
    regions has an empty file.

    Returns:
        The numbers of images that were written, and of images that were left out because they were not located.
    """
    classes = Classes()
    written = left_out = 0
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for hit, view in hits:
            if view is None:
                left_out += 1
                continue
            lines = "".join(f"{classes.number(one.tag)} {_middle_and_size(one.box)}\n" for one in view.regions)
            stem = hit.key.rstrip("/").rpartition("/")[2].rpartition(".")
            name = file_name(Picture(hit.image_id, stem[0] or stem[2], None), "txt")
            _add(archive, f"labels/{name}", lines, view.located_at.timestamp())
            archive.getmembers().clear()  # tarfile remembers what it wrote, and there may be millions
            written += 1
        _add(archive, "classes.txt", "".join(f"{' '.join(name.split())}\n" for name in classes.names), 0)
    return written, left_out


def _middle_and_size(box: Box) -> str:
    left, top, right, bottom = box
    numbers = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    return " ".join(f"{number:.6g}" for number in numbers)


def _add(archive: tarfile.TarFile, name: str, text: str, at: float) -> None:
    content = text.encode()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = len(content), at
    archive.addfile(entry, io.BytesIO(content))

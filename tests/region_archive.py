"""Images whose regions are written as a worker writes them, for tests that need no locator."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import text

from storage.database import unit_of_work
from storage.results import generations, region_corrections, regions
from storage.results.generations import StageSpec
from storage.results.masks import Mask
from storage.results.records import Provenance
from storage.results.region_views import FoundRegion, RegionsRow
from tests.reading_archive import JOB, add_images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Engine

    from storage.results.region_views import Box, RegionsView


def encoded(pixels: NDArray[np.bool_]) -> bytes:
    """Encode (H, W) bool as masks are stored. Written for tests, from COCO's description."""
    flat = pixels.T.reshape(-1)
    runs, value, length = [], False, 0
    for pixel in flat.tolist():
        if pixel != value:
            runs.append(length)
            value, length = pixel, 0
        length += 1
    runs.append(length)
    written = bytearray()
    for place, run in enumerate(runs):
        rest, more = run - runs[place - 2] if place > 2 else run, True
        while more:
            five, rest = rest & 31, rest >> 5
            more = rest != (-1 if five & 16 else 0)
            written.append(48 + (five | 32 if more else five))
    return Mask(*pixels.shape, written.decode()).to_bytes()


def painted(box: Box, height: int = 40, width: int = 60) -> bytes:
    """A mask that fills a box."""
    pixels = np.zeros((height, width), dtype=np.bool_)
    left, top, right, bottom = box
    pixels[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = True
    return encoded(pixels)


def place(number: int, size: float = 0.1) -> Box:
    """The box of region ``number``, from 0: apart from all others, of the share ``size ** 2`` of the picture."""
    left, top = 0.2 * (number % 5), 0.2 * (number // 5 % 5)
    return (round(left, 4), round(top, 4), round(left + size, 4), round(top + size, 4))


def found(*tags: str, score: float = 0.9) -> list[FoundRegion]:
    return [FoundRegion(tag, score, place(number)) for number, tag in enumerate(tags)]


def row(image_id: int, *tags: str, version: str = "v1", is_cut: bool = False) -> RegionsRow:
    return RegionsRow(image_id, version, found(*tags), is_cut)


def add_generation(engine: Engine, name: str = "locator 1") -> int:
    with unit_of_work(engine) as session:
        return generations.ensure_of_stage(session, StageSpec("locate", name, name, "", ""))


@dataclass
class RegionArchive:
    """Some images and a generation that locates tags in them."""

    engine: Engine
    generation_id: int
    images: list[int]

    @classmethod
    def new(cls, engine: Engine, images: int = 4) -> RegionArchive:
        return cls(engine, add_generation(engine), add_images(engine, images))

    def write(self, *rows: RegionsRow, generation_id: int | None = None, job_id: int = JOB) -> None:
        with unit_of_work(self.engine) as session:
            regions.write_regions(session, rows, Provenance(job_id, generation_id or self.generation_id, "none"))

    def view(self, image_id: int, generation_id: int | None = None) -> RegionsView:
        with unit_of_work(self.engine) as session:
            return regions.views(session, [image_id], generation_id)[image_id]

    def tags(self, image_id: int, generation_id: int | None = None) -> list[str]:
        return [region.tag for region in self.view(image_id, generation_id).regions]

    def correct(self, image_id: int, tag: str, box: Box, *, is_there: bool) -> int:
        with unit_of_work(self.engine) as session:
            return region_corrections.correct(session, image_id, tag, box, "ann", is_there=is_there)

    def withdraw(self, correction_id: int) -> None:
        with unit_of_work(self.engine) as session:
            region_corrections.withdraw(session, correction_id)

    def rows(self, statement: str, **values: Any) -> Sequence[Any]:
        with unit_of_work(self.engine) as session:
            return [tuple(row) for row in session.execute(text(statement), values)]

    def counts(self, image_id: int) -> dict[str, tuple[int, int]]:
        """What search counts of an image: number of regions, and millionths of the picture."""
        lists = "SELECT name, packed FROM region_list WHERE block = :id >> 8 AND name <> ''"
        found: dict[str, tuple[int, int]] = {}
        for name, packed in self.rows(lists, id=image_id):
            for number, count, area in struct.iter_unpack(">BHI", packed):
                if number == image_id & 255:
                    found[name] = (count, area)
        names = self.rows("SELECT names FROM located_image WHERE image_id = :id", id=image_id)
        assert names in ([], [(sorted(found),)])
        return found

"""Images whose text is written as a worker writes it, for tests that need no reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage.database import unit_of_work
from storage.results import generations, readings
from storage.results.generations import StageSpec
from storage.results.reading_views import FoundLine, ReadingRow
from storage.results.records import Provenance
from storage.tables import Archive, Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from storage.results.reading_views import LineView, Polygon

JOB = 7


def box(number: int, height: float = 0.08) -> Polygon:
    """The place of line ``number``, from 0: lines stand below each other."""
    top = 0.1 * number + 0.01
    return ((0.1, top), (0.9, top), (0.9, top + height), (0.1, top + height))


def found(*lines: str, confidence: float = 0.9) -> list[FoundLine]:
    return [FoundLine(line, confidence, box(number)) for number, line in enumerate(lines)]


def row(image_id: int, *lines: str, version: str = "v1", is_cut: bool = False) -> ReadingRow:
    return ReadingRow(image_id, version, found(*lines), is_cut)


def add_text_generation(engine: Engine, name: str = "reader 1") -> int:
    with unit_of_work(engine) as session:
        return generations.ensure_of_stage(session, StageSpec("text", name, name, "", ""))


def add_images(engine: Engine, count: int) -> list[int]:
    with unit_of_work(engine) as session:
        archive = Archive(uri="s3://pictures")
        session.add(archive)
        session.flush()
        added = [Image(archive_id=archive.id, key=f"{n:06}.jpg", version="v1", size=1) for n in range(count)]
        session.add_all(added)
        session.flush()
        return [image.id for image in added]


@dataclass
class ReadingArchive:
    """Some images and a generation that reads them."""

    engine: Engine
    generation_id: int
    images: list[int]

    @classmethod
    def new(cls, engine: Engine, images: int = 4) -> ReadingArchive:
        return cls(engine, add_text_generation(engine), add_images(engine, images))

    def write(self, *rows: ReadingRow, generation_id: int | None = None, job_id: int = JOB) -> None:
        with unit_of_work(self.engine) as session:
            provenance = Provenance(job_id, generation_id or self.generation_id, "none")
            readings.write_readings(session, rows, provenance)

    def lines(self, image_id: int, generation_id: int | None = None) -> list[LineView]:
        with unit_of_work(self.engine) as session:
            return readings.views(session, [image_id], generation_id)[image_id].lines

    def texts(self, image_id: int, generation_id: int | None = None) -> list[str]:
        return [line.text for line in self.lines(image_id, generation_id)]

    def rows(self, statement: str, **values: Any) -> Sequence[Any]:
        with unit_of_work(self.engine) as session:
            return [tuple(row) for row in session.execute(text(statement), values)]

    def having(self, query: str) -> list[int]:
        """Return the images whose words match a ``tsquery``, under any generation."""
        matching = "SELECT DISTINCT image_id FROM reading_index WHERE words @@ CAST(:query AS tsquery) ORDER BY 1"
        return [image_id for (image_id,) in self.rows(matching, query=query)]

    def dictionary(self) -> list[str]:
        return [word for (word,) in self.rows('SELECT word FROM read_word ORDER BY word COLLATE "C"')]

"""Text that a reader might have found in the recognised photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.results import generations, readings, records
from storage.results.generations import StageSpec
from storage.results.reading_views import FoundLine, ReadingRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from ramq.wiring import Services

READER = StageSpec("text", "f" * 64, "ppocr_v6", "0" * 64, "made up")


def write_text(services: Services, image_id: int, lines: Sequence[FoundLine], *, is_cut: bool = False) -> int:
    """Write what was read in an image. Returns the generation."""
    return write_text_of(services.engine, {image_id: lines}, is_cut=is_cut)


def write_text_of(
    engine: Engine, lines: dict[int, Sequence[FoundLine]], *, is_cut: bool = False, spec: StageSpec = READER
) -> int:
    with unit_of_work(engine) as session:
        generation_id = generations.ensure_of_stage(session, spec)
        records.lock_existing(session, list(lines))
        rows = [ReadingRow(image_id, "1", each, is_cut) for image_id, each in lines.items()]
        readings.write_readings(session, rows, records.Provenance(1, generation_id, "none"))
    return generation_id

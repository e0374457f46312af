"""Regions that a locator might have found in the recognised photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.results import generations, records, regions
from storage.results.generations import StageSpec
from storage.results.region_views import RegionsRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ramq.wiring import Services
    from storage.results.region_views import FoundRegion

LOCATOR = StageSpec("locate", "d" * 64, "grounding_dino+sam", "0" * 64, "made up")


def write_regions(
    services: Services, image_id: int, found: Sequence[FoundRegion], spec: StageSpec = LOCATOR, *, is_cut: bool = False
) -> int:
    """Write what was found in an image. Returns the generation."""
    with unit_of_work(services.engine) as session:
        generation_id = generations.ensure_of_stage(session, spec)
        records.lock_existing(session, [image_id])
        row = RegionsRow(image_id, "1", found, is_cut)
        regions.write_regions(session, [row], records.Provenance(1, generation_id, "none"))
    return generation_id

"""The regions of tags in images under ``/v1/images/{image_id}/regions``."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, status

from ramq.schemas.regions import RegionCorrection, RegionsOut
from ramq.web.api.generations import MAX_GENERATION
from ramq.web.deps import MAYBE_BLANK, Id, ServicesDep, caller_of
from ramq.wiring import Services

router = APIRouter(prefix="/v1/images/{image_id}/regions", tags=["regions"])


@router.get("")
def get_regions(
    services: ServicesDep,
    image_id: Id,
    generation: Annotated[
        int | None,
        Query(ge=1, le=MAX_GENERATION, description="the generation that found them; default: the newest result"),
        MAYBE_BLANK,
    ] = None,
) -> RegionsOut:
    """Return where tags are in one image: boxes, scores and masks, corrected where people said so."""
    return _regions(services, image_id, generation)


@router.post("/corrections", status_code=status.HTTP_201_CREATED)
def correct_region(request: Request, services: ServicesDep, image_id: Id, body: RegionCorrection) -> RegionsOut:
    """Draw a region, or reject those of a tag at a place. It replaces the regions of the tag at about this place.

    The correction overrides every generation, and later jobs too.
    """
    left, top, right, bottom = body.box
    services.regions.correct(
        image_id, body.tag, (left, top, right, bottom), is_there=body.is_there, said_by=caller_of(request)
    )
    return _regions(services, image_id)


@router.delete("/corrections/{correction_id}")
def reset_region(services: ServicesDep, image_id: Id, correction_id: Id) -> RegionsOut:
    """Remove a correction, so that its place is again as it was found."""
    services.regions.withdraw(image_id, correction_id)
    return _regions(services, image_id)


def _regions(services: Services, image_id: int, generation: int | None = None) -> RegionsOut:
    return RegionsOut.of(services.regions.get(image_id, generation), services.regions.corrections(image_id))

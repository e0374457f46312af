"""The regions of tags in images under ``/v1/images/{image_id}/regions``."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response, status

from ramq.schemas.regions import RegionCorrection, RegionsOut
from ramq.services.thumbnails import CROP_SIDES
from ramq.web.api.generations import MAX_GENERATION
from ramq.web.deps import MAX_ID, MAYBE_BLANK, Id, ServicesDep, caller_of
from ramq.web.ranges import answer_with_jpeg
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


@router.get(
    "/{number}/crop",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, 304: {"description": "not modified"}},
)
async def get_crop(
    request: Request,
    services: ServicesDep,
    image_id: Id,
    number: Annotated[int, Path(ge=1, le=MAX_ID, description="the region's number in the list")],
    side: Annotated[
        int,
        Query(ge=32, le=CROP_SIDES[-1], description="longest side, in pixels, rounded up; nothing is enlarged"),
        MAYBE_BLANK,
    ] = 256,
) -> Response:
    """Return a JPEG of one region, with a margin of 5% of its width and height on each side. Masks are not applied."""
    content, etag = await request.app.state.shown.run(services.images.crop, image_id, number, side)
    # Corrections and new results give numbers to other regions, so a browser must ask each time.
    return answer_with_jpeg(content, etag, "private, no-cache", request.headers)


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

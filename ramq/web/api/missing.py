"""Images of which people said something and whose files are missing, under ``/v1/missing``."""

from typing import Annotated

from fastapi import APIRouter, Query

from ramq.schemas.missing import ContinueAt, MissingPageOut
from ramq.schemas.views import ImageOut
from ramq.web.deps import MAX_TEXT, MAYBE_BLANK, Cursor, Id, Limit, ServicesDep

router = APIRouter(prefix="/v1", tags=["images"])


@router.get("/missing")
def list_missing(
    services: ServicesDep,
    archive: Annotated[
        str | None, Query(max_length=MAX_TEXT, description="only images of this archive, by id or URI"), MAYBE_BLANK
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> MissingPageOut:
    """Return images of which people said something and whose files are missing, by number."""
    return MissingPageOut.model_validate(services.images.missing.page(archive, limit=limit, cursor=cursor))


@router.post("/images/{image_id}/continue")
def continue_image(services: ServicesDep, image_id: Id, body: ContinueAt) -> ImageOut:
    """Say that a missing image is the same picture as another one: it continues there, with all that was said of both.

    The number of the other image then leads to this one.
    """
    services.images.missing.continue_at(str(image_id), str(body.at))
    return ImageOut.model_validate(services.images.get(image_id))

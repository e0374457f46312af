"""Groups of images with the same bytes under ``/v1/duplicates``."""

from typing import Annotated

from fastapi import APIRouter, Query

from ramq.schemas.duplicates import CopyGroupsOut
from ramq.web.deps import MAX_TEXT, MAYBE_BLANK, Cursor, Limit, ServicesDep

router = APIRouter(prefix="/v1/duplicates", tags=["images"])


@router.get("")
def list_duplicates(
    services: ServicesDep,
    archive: Annotated[
        str | None,
        Query(max_length=MAX_TEXT, description="count only the images of this archive, by id or URI"),
        MAYBE_BLANK,
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> CopyGroupsOut:
    """Return groups of images with the same bytes, those with the most images first."""
    return CopyGroupsOut.model_validate(services.duplicates.page(archive, limit=limit, cursor=cursor))

"""Groups of images with the same bytes, and of near copies, under ``/v1/duplicates``."""

from typing import IO, Annotated

from fastapi import APIRouter, Query, Request, status
from fastapi.responses import StreamingResponse
from pydantic import Field

from ramq.schemas.duplicates import CopyGroupsOut
from ramq.schemas.near_copies import NearGroupsOut, NearStateOut
from ramq.services.duplicate_rows import Format, lines_of
from ramq.web.deps import MAX_ID, MAX_TEXT, MAYBE_BLANK, Cursor, Limit, ServicesDep, exports_of
from storage.results.near_views import NearRow
from storage.results.nearness import MOST_DISTANCE

router = APIRouter(prefix="/v1/duplicates", tags=["images"])

ArchiveOf = Annotated[
    str | None,
    Query(max_length=MAX_TEXT, description="count only the images of this archive, by id or URI"),
    MAYBE_BLANK,
]
DistanceOf = Annotated[
    int | None,
    Query(
        ge=0,
        le=MOST_DISTANCE,
        description="count only images whose hash differs from that of the picture around which the group is in so "
        "many bits at most",
    ),
    MAYBE_BLANK,
]

Number = Annotated[int, Field(ge=1, le=MAX_ID)]
MOST_PICKED = 1_000
"""Images that can be named in an address."""


@router.get("")
def list_duplicates(
    services: ServicesDep, archive: ArchiveOf = None, limit: Limit = 50, cursor: Cursor = None
) -> CopyGroupsOut:
    """Return groups of images with the same bytes, those with the most images first."""
    return CopyGroupsOut.model_validate(services.duplicates.page(archive, limit=limit, cursor=cursor))


@router.get("/near")
def list_near_copies(
    services: ServicesDep,
    archive: ArchiveOf = None,
    distance: DistanceOf = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> NearGroupsOut:
    """Return groups of near copies that the last search for them found, those with the most images first."""
    page = services.duplicates.near_page(archive, distance=distance, limit=limit, cursor=cursor)
    return NearGroupsOut.model_validate(page)


@router.get("/near/state")
def get_near_state(services: ServicesDep) -> NearStateOut:
    """Return when near copies were searched last, and which images are not in the result."""
    return NearStateOut.model_validate(services.duplicates.near_state())


@router.post("/near/search", status_code=status.HTTP_202_ACCEPTED)
def request_near_search(services: ServicesDep) -> NearStateOut:
    """Ask the workers to search for near copies. One of them begins within seconds."""
    return NearStateOut.model_validate(services.duplicates.request_near())


_MEDIA_TYPES: dict[Format, str] = {"jsonl": "application/jsonl", "csv": "text/csv; charset=utf-8"}


@router.get(
    "/near/export",
    response_class=StreamingResponse,
    responses={200: {"content": {media.partition(";")[0]: {} for media in _MEDIA_TYPES.values()}}},
)
def export_near_copies(
    request: Request,
    services: ServicesDep,
    archive: ArchiveOf = None,
    distance: DistanceOf = None,
    format: Annotated[Format, Query(description="of the file"), MAYBE_BLANK] = "csv",  # noqa: A002  (its public name)
    image: Annotated[
        list[Number] | None,
        Query(max_length=MOST_PICKED, description="only these images; none: all"),
    ] = None,
) -> StreamingResponse:
    """Send the images of all groups of near copies as a file, one per row: group, image, size, which is largest."""
    rows = services.duplicates.near_rows(archive, distance=distance, images=image)

    def write(file: IO[bytes]) -> None:
        for line in lines_of(rows, NearRow, format):
            file.write(line.encode())

    return StreamingResponse(
        exports_of(request).begin(write),
        media_type=_MEDIA_TYPES[format],
        headers={"Content-Disposition": f'attachment; filename="near-copies.{format}"', "Cache-Control": "no-store"},
    )

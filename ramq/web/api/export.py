"""What a search finds, as a file, under ``/v1/export``."""

from typing import IO, Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from ramq.exported_rows import write_found
from ramq.services.export import require_place
from ramq.web.deps import MAX_TEXT, MAYBE_BLANK, Filters, ServicesDep, exports_of

Format = Literal["jsonl", "csv", "parquet", "coco"]

_MEDIA_TYPES: dict[Format, str] = {
    "jsonl": "application/jsonl",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "coco": "application/json",
}

router = APIRouter(prefix="/v1", tags=["search"])


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {media.partition(";")[0]: {} for media in _MEDIA_TYPES.values()}}},
)
def export(
    request: Request,
    services: ServicesDep,
    query: Filters,
    format: Annotated[Format, Query(description="of the file"), MAYBE_BLANK] = "jsonl",  # noqa: A002  (its public name)
    text: Annotated[bool, Query(description="add the lines of text in each image"), MAYBE_BLANK] = False,  # noqa: FBT002
    vectors: Annotated[
        str | None,
        Query(max_length=MAX_TEXT, description="for jsonl and parquet: add the vector of each image in this space"),
        MAYBE_BLANK,
    ] = None,
) -> StreamingResponse:
    """Send all hits of a search as one file. A search by text or similarity sends the best 10,000.

    The file is written while it is sent. If that fails in the middle, the connection breaks, so a file that arrives
    whole is complete. Four exports at most are sent at the same time.
    """
    require_place(format, with_text=text, vectors=vectors)
    found = services.search.export(query)

    def write(file: IO[bytes]) -> None:
        write_found(services, found, format, file, with_text=text, vectors=vectors)

    ending = "json" if format == "coco" else format
    return StreamingResponse(
        exports_of(request).begin(write),
        media_type=_MEDIA_TYPES[format],
        headers={"Content-Disposition": f'attachment; filename="ramq.{ending}"', "Cache-Control": "no-store"},
    )

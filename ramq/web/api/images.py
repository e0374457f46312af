"""Search, tags and single images under ``/v1``."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from ramq.schemas.hits import FacetOut, FacetsOut, FileFacetsOut, HitsOut, NoteOut, RegionFacetsOut
from ramq.schemas.views import (
    ArchiveOut,
    Correction,
    DeletionOut,
    ImageOut,
    IndexOut,
    NewAddress,
    NewPolicy,
    PageOut,
    PolicyKind,
    PolicyOut,
)
from ramq.services.thumbnails import SIZES
from ramq.web.deps import (
    MAX_TEXT,
    MAYBE_BLANK,
    Cursor,
    Filters,
    Id,
    Limit,
    Search,
    ServicesDep,
    absolute_source,
    caller_of,
)
from ramq.web.ranges import answer_with, answer_with_jpeg
from ramq.web.uploads import read_picture
from ramq.wiring import Services
from storage.errors import UsageError
from storage.search.views import SearchQuery

_PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "string", "format": "binary"}},
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}

TagName = Annotated[str, Path(min_length=1, max_length=MAX_TEXT, description="name of a tag, or its id")]

router = APIRouter(prefix="/v1", tags=["search"])


@router.get("/search")
def search(request: Request, services: ServicesDep, query: Search) -> HitsOut:
    """Find images by text, tags and similarity, alone or together."""
    with request.app.state.metrics.search_seconds("query"):
        return HitsOut.model_validate(services.search.page(query))


@router.post("/search/image", openapi_extra=_PICTURE_BODY)
async def search_by_image(request: Request, services: ServicesDep, query: Search) -> HitsOut:
    """Find images similar to an uploaded picture. Send a form with the field `image`, or the picture as the body."""
    picture = await read_picture(request)
    with request.app.state.metrics.search_seconds("image"):
        page = await request.app.state.uploads.run(services.search.by_image, picture, query)
    return HitsOut.model_validate(page)


@router.get("/tags")
def list_tags(services: ServicesDep, query: Filters, limit: Limit = 50, cursor: Cursor = None) -> FacetsOut:
    """List the tags of the matching images, most frequent first (facets). With free text, count only its hits."""
    page = services.search.facet_page(query, limit=limit, cursor=cursor)
    items = [FacetOut.model_validate(facet) for facet in page.items]
    notes = [NoteOut.model_validate(note) for note in query.notes]
    located = None if cursor else services.search.region_facets(query)
    regions = None if located is None else RegionFacetsOut.model_validate(located)
    files = None if cursor else _file_facets(services, query)
    return FacetsOut(items=items, next_cursor=page.next_cursor, notes=notes, regions=regions, files=files)


def _file_facets(services: Services, query: SearchQuery) -> FileFacetsOut | None:
    try:
        return FileFacetsOut.model_validate(services.search.file_facets(query))
    except UsageError:  # too many images to count, since the tags of the same query were counted
        return None


@router.get("/images/{image_id}")
def get_image(services: ServicesDep, image_id: Id) -> ImageOut:
    """Return one image: key, size, every stored score, caption, generation, history."""
    return ImageOut.model_validate(services.images.get(image_id))


@router.get(
    "/images/{image_id}/thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, 304: {"description": "not modified"}},
)
async def get_thumbnail(
    request: Request,
    services: ServicesDep,
    image_id: Id,
    size: Annotated[
        int, Query(ge=1, le=SIZES[-1], description="longest side, in pixels, rounded up"), MAYBE_BLANK
    ] = 320,
) -> Response:
    """Return a small JPEG of the image. This server makes it from the original."""
    content, etag = await request.app.state.shown.run(services.images.thumbnail, image_id, size=size)
    return answer_with_jpeg(content, etag, "private, max-age=300, stale-while-revalidate=86400", request.headers)


@router.get(
    "/images/{image_id}/original",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"image/*": {}, "application/pdf": {}, "application/octet-stream": {}}},
        206: {"description": "the part that `Range` asks for"},
        304: {"description": "not modified"},
        416: {"description": "the range is outside the original"},
    },
)
def get_original(request: Request, services: ServicesDep, image_id: Id) -> Response:
    """Return the original from its archive, whole or in part (`Range: bytes=0-1023`), as it is there now.

    The archive must be allowed by `RAMQ_ARCHIVE_ALLOW`. Formats that browsers cannot show are sent as a download. The
    original of a page of a file is the file.
    """
    return answer_with(services.images.original(image_id), request.headers)


@router.put("/images/{image_id}/tags/{tag:path}")
def put_tag(request: Request, services: ServicesDep, image_id: Id, tag: TagName, body: Correction) -> ImageOut:
    """Add this tag to the image, or remove it. The correction overrides every generation, and later jobs too."""
    said = {"add": [tag]} if body.present else {"remove": [tag]}
    services.corrections.tag([image_id], **said, by=caller_of(request))
    return ImageOut.model_validate(services.images.get(image_id))


@router.delete("/images/{image_id}/tags/{tag:path}")
def reset_tag(services: ServicesDep, image_id: Id, tag: TagName) -> ImageOut:
    """Remove the correction of this tag, so that the model decides again."""
    services.corrections.tag([image_id], reset=[tag])
    return ImageOut.model_validate(services.images.get(image_id))


@router.delete("/images/{image_id}")
def delete_image(request: Request, services: ServicesDep, image_id: Id) -> DeletionOut:
    """Erase everything about an image: records, vectors, index entries, thumbnails. The original is not touched."""
    services.images.get(image_id)
    return DeletionOut.model_validate(services.erasures.delete([image_id], by=caller_of(request)))


def _named(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise PydanticCustomError("blank", "must not be blank; give an archive, or omit it for all archives")
    return value


# Here a blank value is refused, not treated as not given. A lost name must not change the rules of all archives.
ArchiveName = Annotated[
    str | None,
    Query(
        max_length=MAX_TEXT, pattern=r"\S", description="an archive's id or URI, not blank; omit it for all archives"
    ),
    BeforeValidator(_named),
]


@router.get("/policies")
def list_policies(services: ServicesDep) -> PageOut[PolicyOut]:
    """List the tag rules: which tags are hidden, allowed, or no things in which archive."""
    return PageOut[PolicyOut](items=[PolicyOut.model_validate(rule) for rule in services.policies.list()])


@router.put("/policies/{tag:path}")
def put_policy(
    request: Request, services: ServicesDep, tag: TagName, body: NewPolicy, archive: ArchiveName = None
) -> PageOut[PolicyOut]:
    """Allow or deny a tag, or say that it is no thing. No record is changed.

    The first two take effect at the next search, the last one when tags are located.
    """
    services.policies.put(tag, body.kind, archive, by=caller_of(request))
    return list_policies(services)


@router.delete("/policies/{tag:path}")
def clear_policy(
    services: ServicesDep,
    tag: TagName,
    archive: ArchiveName = None,
    kind: Annotated[
        PolicyKind | None, Query(description="only this rule; default: all of the tag"), MAYBE_BLANK
    ] = None,
) -> PageOut[PolicyOut]:
    """Remove the rules of a tag."""
    services.policies.clear(tag, archive, kind)
    return list_policies(services)


@router.get("/archives")
def list_archives(services: ServicesDep) -> PageOut[ArchiveOut]:
    """List the archives, and how many images of each are listed and recorded."""
    return PageOut[ArchiveOut](items=[ArchiveOut.model_validate(archive) for archive in services.archives.list()])


@router.patch("/archives/{archive_id}")
def rename_archive(services: ServicesDep, archive_id: Id, new: NewAddress) -> ArchiveOut:
    """Give an archive its new address after its bucket was copied or its folder was moved. Results stay."""
    renamed = services.archives.rename(str(archive_id), absolute_source(new.uri), force=new.force)
    return ArchiveOut.model_validate(renamed)


@router.delete("/archives/{archive_id}")
def remove_archive(request: Request, services: ServicesDep, archive_id: Id) -> DeletionOut:
    """Erase everything about an archive: its images and their results, its jobs and rules. Originals stay."""
    return DeletionOut.model_validate(services.archives.remove(str(archive_id), by=caller_of(request)))


@router.get("/index")
def index_status(services: ServicesDep) -> PageOut[IndexOut]:
    """Return the state of each generation's vector index, compared with the database."""
    return PageOut[IndexOut](items=[IndexOut.model_validate(index) for index in services.index.status()])

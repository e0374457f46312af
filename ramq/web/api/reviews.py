"""Reviews of data sets under ``/v1/datasets/{name}/review``."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from ramq.schemas.reviews import DecisionsOut, NewAnswer, ReviewOut, SaidOut
from ramq.services.thumbnails import CROP_SIDES
from ramq.web.deps import MAX_TEXT, MAYBE_BLANK, Cursor, Id, Limit, ServicesDep, caller_of
from ramq.web.ranges import answer_with_jpeg

Version = Annotated[
    str,
    Path(
        min_length=1,
        max_length=100,
        pattern=r"^[^\x00]*$",
        description="name of a data set, for its newest version that is done, or `name@number`",
    ),
]
TagOf = Annotated[
    str, Path(min_length=1, max_length=MAX_TEXT, pattern="^[^\\x00]*$", description="name of a tag, or its id")
]
What = Annotated[Literal["dropped", "added"], Query(description="tags that a step dropped, or added"), MAYBE_BLANK]
Side = Annotated[int, Query(ge=32, le=CROP_SIDES[-1], description="longest side, in pixels, rounded up"), MAYBE_BLANK]

router = APIRouter(prefix="/v1/datasets/{name}/review", tags=["datasets"])


@router.get("")
def get_review(services: ServicesDep, name: Version) -> ReviewOut:
    """Return how many decisions wait for a person and how many were found right: by tag, and by person."""
    return ReviewOut.of(services.reviews.progress(name))


@router.get(
    "/images/{image_id}/crop/{tag:path}",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, 304: {"description": "not modified"}},
)
async def get_decided_crop(
    request: Request, services: ServicesDep, name: Version, image_id: Id, tag: TagOf, side: Side = 256
) -> Response:
    """Return a JPEG of what a tag was decided on: its region in the picture, or the picture."""
    content, etag = await request.app.state.shown.run(services.reviews.crop, name, tag, image_id, side)
    return answer_with_jpeg(content, etag, "private, max-age=300", request.headers)


@router.get("/tags/{tag:path}")
def list_decisions(
    services: ServicesDep, name: Version, tag: TagOf, what: What = "dropped", limit: Limit = 50, cursor: Cursor = None
) -> DecisionsOut:
    """List the decisions about a tag that wait for a person, least certain first.

    The first page has typical pictures of the tag too.
    """
    page = services.reviews.waiting(name, tag, what, limit=limit, cursor=cursor)
    return DecisionsOut.of_page(page.items, page.next_cursor, [] if cursor else services.reviews.typical(name, tag))


@router.post("/tags/{tag:path}")
def say(request: Request, services: ServicesDep, name: Version, tag: TagOf, body: NewAnswer) -> SaidOut:
    """Say that a step was right about a tag of these pictures, or not. The answers become corrections.

    A decision that has an answer keeps it; `others` says who gave it.
    """
    return SaidOut.of(services.reviews.say(name, tag, body.image_ids, is_right=body.is_right, by=caller_of(request)))

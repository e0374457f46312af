"""The page of images with the same bytes, and of near copies."""

from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from ramq.web.deps import MAX_TEXT, MAYBE_BLANK, Cursor, ServicesDep, templates_of
from ramq.web.problems import problem_of
from storage.errors import UsageError
from storage.page import Page
from storage.results.nearness import MOST_DISTANCE

if TYPE_CHECKING:
    from storage.results.copies import CopyGroup
    from storage.results.near_views import NearGroup

GROUPS_PER_SCREEN = 30
NEAR_GROUPS_PER_SCREEN = 12

router = APIRouter(include_in_schema=False, prefix="/duplicates")

ArchiveOf = Annotated[str | None, Query(max_length=MAX_TEXT), MAYBE_BLANK]


@router.get("")
def show_duplicates(
    request: Request,
    services: ServicesDep,
    kind: Annotated[Literal["same", "near"], Query(), MAYBE_BLANK] = "same",
    archive: ArchiveOf = None,
    distance: Annotated[int | None, Query(ge=0, le=MOST_DISTANCE), MAYBE_BLANK] = None,
    cursor: Cursor = None,
) -> HTMLResponse:
    """Show groups of images with the same bytes, or of near copies, those with the most images first."""
    page: Page[CopyGroup] | Page[NearGroup] = Page([])
    problem = None
    duplicates = services.duplicates
    try:
        if kind == "near":
            page = duplicates.near_page(archive, distance=distance, limit=NEAR_GROUPS_PER_SCREEN, cursor=cursor)
        else:
            page = duplicates.page(archive, limit=GROUPS_PER_SCREEN, cursor=cursor)
    except UsageError as error:
        problem = problem_of(error)
    return templates_of(request).show(
        request,
        "near_copies.html" if kind == "near" else "duplicates.html",
        status=problem.status if problem else 200,
        page=page,
        kind=kind,
        archive=archive or "",
        distance=distance,
        most_distance=MOST_DISTANCE,
        is_first=cursor is None,
        archives=services.archives.names(),
        state=duplicates.near_state() if kind == "near" else None,
        problem=problem,
    )


@router.post("/search")
def search_again(services: ServicesDep) -> Response:
    """Ask the workers to search for near copies, and show the page again."""
    services.duplicates.request_near()
    return RedirectResponse("/duplicates?kind=near", status_code=303)

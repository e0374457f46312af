"""The page of images with the same bytes."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from ramq.web.deps import MAX_TEXT, MAYBE_BLANK, Cursor, ServicesDep, templates_of
from ramq.web.problems import problem_of
from storage.errors import UsageError
from storage.page import Page

if TYPE_CHECKING:
    from storage.results.copies import CopyGroup

GROUPS_PER_SCREEN = 30

router = APIRouter(include_in_schema=False, prefix="/duplicates")


@router.get("")
def show_duplicates(
    request: Request,
    services: ServicesDep,
    archive: Annotated[str | None, Query(max_length=MAX_TEXT), MAYBE_BLANK] = None,
    cursor: Cursor = None,
) -> HTMLResponse:
    """Show groups of images with the same bytes, those with the most images first."""
    page: Page[CopyGroup] = Page([])
    problem = None
    try:
        page = services.duplicates.page(archive, limit=GROUPS_PER_SCREEN, cursor=cursor)
    except UsageError as error:
        problem = problem_of(error)
    return templates_of(request).show(
        request,
        "duplicates.html",
        status=problem.status if problem else 200,
        page=page,
        archive=archive or "",
        is_first=cursor is None,
        archives=services.archives.names(),
        problem=problem,
    )

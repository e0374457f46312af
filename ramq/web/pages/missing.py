"""The page of images of which people said something and whose files are missing."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse

from ramq.schemas.problem import Problem
from ramq.web.deps import MAX_TEXT, MAYBE_BLANK, Cursor, Id, ServicesDep, templates_of
from ramq.web.problems import problem_of
from ramq.wiring import Services
from storage.errors import RamqError, UsageError
from storage.page import Page

if TYPE_CHECKING:
    from storage.results.missing import MissingView

PER_SCREEN = 50

router = APIRouter(include_in_schema=False, prefix="/missing")


@router.get("")
def show_missing(
    request: Request,
    services: ServicesDep,
    archive: Annotated[str | None, Query(max_length=MAX_TEXT), MAYBE_BLANK] = None,
    cursor: Cursor = None,
) -> HTMLResponse:
    """Show images of which people said something and whose files are missing."""
    return _screen(request, services, archive, cursor)


@router.post("/{image_id}")
def continue_image(
    request: Request, services: ServicesDep, image_id: Id, at: Annotated[str, Form(max_length=MAX_TEXT)] = ""
) -> HTMLResponse:
    """Let an image continue at another one. Errors are shown above the list."""
    try:
        services.images.missing.continue_at(str(image_id), at.strip())
    except RamqError as error:
        return _screen(request, services, None, None, problem=problem_of(error))
    return _screen(request, services, None, None, told=image_id)


def _screen(
    request: Request,
    services: Services,
    archive: str | None,
    cursor: str | None,
    *,
    told: int | None = None,
    problem: Problem | None = None,
) -> HTMLResponse:
    page: Page[MissingView] = Page([])
    try:
        page = services.images.missing.page(archive, limit=PER_SCREEN, cursor=cursor)
    except UsageError as error:
        problem = problem_of(error)
    return templates_of(request).show(
        request,
        "missing.html",
        status=problem.status if problem else 200,
        page=page,
        archive=archive or "",
        archives=services.archives.names(),
        told=told,
        problem=problem,
    )

"""The page of archives: list, rename and remove them."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse

from ramq.schemas.problem import Problem
from ramq.web.deps import Id, ServicesDep, absolute_source, caller_of, templates_of
from ramq.web.problems import problem_of
from ramq.wiring import Services
from storage.errors import ConflictError, RamqError
from storage.texts import plural

router = APIRouter(include_in_schema=False, prefix="/archives")


@router.get("")
def show_archives(request: Request, services: ServicesDep) -> HTMLResponse:
    """Show the archives, and how many images of each are listed and recorded."""
    return _archives(request, services)


def _archives(
    request: Request, services: Services, *, told: str | None = None, problem: Problem | None = None
) -> HTMLResponse:
    status = problem.status if problem else 200
    archives = services.archives.list()
    return templates_of(request).show(
        request, "archives.html", status=status, archives=archives, told=told, problem=problem
    )


@router.post("/{archive_id}/rename")
def rename_archive(
    request: Request, services: ServicesDep, archive_id: Id, to: Annotated[str, Form(max_length=4_096)] = ""
) -> HTMLResponse:
    """Give an archive its new address. Errors are shown above the list."""
    try:
        view = services.archives.rename(str(archive_id), absolute_source(to.strip()))
    except RamqError as error:
        return _archives(request, services, problem=problem_of(error))
    return _archives(request, services, told=f"Archive {view.id} is now at {view.uri}.")


@router.post("/{archive_id}/remove")
def remove_archive(request: Request, services: ServicesDep, archive_id: Id) -> HTMLResponse:
    """Erase everything about an archive, and show what was erased."""
    try:
        done = services.archives.remove(str(archive_id), by=caller_of(request))
    except ConflictError as error:
        return _archives(request, services, problem=problem_of(error))
    return _archives(
        request,
        services,
        told=f"Deletion {done.deletion_id} erased the results of {plural(done.images, 'image')}. Originals untouched.",
    )

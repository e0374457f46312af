"""The page of archives: list, watch, rename and remove them."""

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from ramq.schemas.problem import Problem
from ramq.services.job_wishes import JobWishes
from ramq.services.watches import NewWatch
from ramq.web.deps import Id, ServicesDep, absolute_source, caller_of, templates_of
from ramq.web.problems import problem_of
from ramq.wiring import Services
from storage.errors import ConflictError, NotFoundError, RamqError, UsageError
from storage.objects.base import CredentialsError
from storage.texts import plural

router = APIRouter(include_in_schema=False, prefix="/archives")


@router.get("")
def show_archives(request: Request, services: ServicesDep) -> HTMLResponse:
    """Show the archives, and how many images of each are listed and recorded."""
    return _archives(request, services)


def _archives(
    request: Request,
    services: Services,
    *,
    told: str | None = None,
    problem: Problem | None = None,
    new_secret: NewWatch | None = None,
) -> HTMLResponse:
    status = problem.status if problem else 200
    archives = services.archives.list()
    return templates_of(request).show(
        request,
        "archives.html",
        status=status,
        archives=archives,
        watches=services.watches.list(),
        told=told,
        problem=problem,
        new_secret=new_secret,
    )


@router.post("/watches")
def add_watch(
    request: Request,
    services: ServicesDep,
    source: Annotated[str, Form(max_length=4_096)] = "",
    every: Annotated[str, Form(max_length=20)] = "1h",
    events: Annotated[Literal["none", "inotify", "webhook"], Form()] = "none",
    pages: Annotated[Literal["all", ""], Form()] = "",
) -> Response:
    """Watch an archive. Errors are shown above the list."""
    try:
        added = services.watches.add(
            absolute_source(source.strip()),
            JobWishes(pages=bool(pages)),
            every=every,
            events=events,
            by=caller_of(request),
        )
    except NotFoundError as error:
        # The archive in the form is missing, not this page, so this is not a 404.
        return _archives(request, services, problem=problem_of(UsageError(str(error))))
    except (UsageError, CredentialsError) as error:
        return _archives(request, services, problem=problem_of(error))
    if added.secret is not None:
        return _archives(request, services, new_secret=added)
    return RedirectResponse("/archives#watches-title", status_code=303)


@router.post("/watches/{watch_id}/{action}")
def steer_watch(services: ServicesDep, watch_id: Id, action: Literal["pause", "resume", "remove"]) -> Response:
    """Pause, resume or remove a watch, then show the list."""
    watches = services.watches
    {"pause": watches.pause, "resume": watches.resume, "remove": watches.remove}[action](watch_id)
    return RedirectResponse("/archives#watches-title", status_code=303)


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

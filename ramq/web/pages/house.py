"""The screens around the archive: which archives there are, the API's reference, signing in and out."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from ramq.schemas.problem import Problem
from ramq.web.deps import Id, Reach, absolute_source, caller_of, screens_of
from ramq.web.problems import make_problem, problem_of
from ramq.web.tokens import COOKIE
from ramq.wiring import Services
from storage.errors import ConflictError, RamqError
from storage.texts import plural

router = APIRouter(include_in_schema=False)


@router.get("/archives")
def show_archives(request: Request, services: Reach) -> HTMLResponse:
    """Show the archives and how much of each is listed and recorded."""
    return _archives(request, services)


def _archives(
    request: Request, services: Services, *, told: str | None = None, problem: Problem | None = None
) -> HTMLResponse:
    status = problem.status if problem else 200
    archives = services.archives()
    return screens_of(request).show(
        request, "archives.html", status=status, archives=archives, told=told, problem=problem
    )


@router.post("/archives/{archive_id}/rename")
def rename_archive(
    request: Request, services: Reach, archive_id: Id, to: Annotated[str, Form(max_length=4_096)] = ""
) -> HTMLResponse:
    """Give an archive the address that it moved to; what is wrong with it is said above the list."""
    try:
        view = services.archive_client.rename(str(archive_id), absolute_source(to.strip()))
    except RamqError as error:
        return _archives(request, services, problem=problem_of(error))
    return _archives(request, services, told=f"Archive {view.id} is at {view.uri} now.")


@router.post("/archives/{archive_id}/remove")
def remove_archive(request: Request, services: Reach, archive_id: Id) -> HTMLResponse:
    """Erase all that is known of an archive, and tell what was erased."""
    try:
        done = services.archive_client.remove(str(archive_id), by=caller_of(request))
    except ConflictError as error:
        return _archives(request, services, problem=problem_of(error))
    return _archives(
        request,
        services,
        told=f"Deletion {done.deletion_id} erased the results of {plural(done.images, 'image')}. Originals untouched.",
    )


@router.get("/docs")
def show_reference(request: Request) -> HTMLResponse:
    """Show the API's reference, made from its OpenAPI document."""
    return screens_of(request).show(request, "reference.html", openapi=request.app.openapi())


@router.get("/login")
def show_login(request: Request, next: str = "/") -> HTMLResponse:  # noqa: A002  (the parameter's public name)
    """Ask for a token."""
    return screens_of(request).show(request, "login.html", next=_own_path(next), problem=None)


@router.post("/login")
def login(
    request: Request,
    token: Annotated[str, Form(max_length=4_096)] = "",
    next: Annotated[str, Form(max_length=8_192)] = "/",  # noqa: A002  (the field's public name)
) -> Response:
    """Keep a session for a right token; ask again for a wrong one."""
    session = request.app.state.tokens.session_of(token)
    if session is None:
        problem = make_problem(401, "unauthorized", "That token is not valid.")
        return screens_of(request).show(request, "login.html", status=401, next=_own_path(next), problem=problem)
    response = RedirectResponse(_own_path(next), status_code=303)
    is_secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, session, httponly=True, samesite="strict", secure=is_secure, max_age=30 * 86_400)
    return response


@router.post("/logout")
def logout() -> RedirectResponse:
    """Forget the session."""
    response = RedirectResponse("/login", status_code=303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


def _own_path(target: str) -> str:
    """Return ``target`` if it is a path of this site, else the start: a link must not send people elsewhere."""
    # Browsers read a backslash as a slash and drop what cannot be printed, so either could make a `//` of it.
    is_own = target.startswith("/") and not target.startswith("//") and "\\" not in target
    return target if is_own and target.isprintable() else "/"

"""The pages to sign in and out."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from ramq.web.deps import templates_of
from ramq.web.problems import make_problem
from ramq.web.tokens import COOKIE
from storage.page_sessions import SESSION_DAYS

router = APIRouter(include_in_schema=False)


@router.get("/login")
def show_login(request: Request, next: str = "/") -> HTMLResponse:  # noqa: A002  (the parameter's public name)
    """Show the form that asks for a token."""
    return templates_of(request).show(request, "login.html", next=_own_path(next), problem=None)


@router.post("/login")
async def login(
    request: Request,
    token: Annotated[str, Form(max_length=4_096)] = "",
    next: Annotated[str, Form(max_length=8_192)] = "/",  # noqa: A002  (the field's public name)
) -> Response:
    """Start a session for a valid token. Show the form again for an invalid one."""
    cookie = await request.app.state.callers.sign_in(token)
    if cookie is None:
        problem = make_problem(401, "unauthorized", "That token is not valid.")
        return templates_of(request).show(request, "login.html", status=401, next=_own_path(next), problem=problem)
    response = RedirectResponse(_own_path(next), status_code=303)
    # Anybody can send this header. It makes nothing but the cookie stricter.
    is_secure = "https" in {request.url.scheme, request.headers.get("x-forwarded-proto", "").partition(",")[0].strip()}
    response.set_cookie(
        COOKIE, cookie, httponly=True, samesite="strict", secure=is_secure, max_age=SESSION_DAYS * 86_400
    )
    return response


@router.post("/logout")
async def logout(request: Request) -> RedirectResponse:
    """End the session on every web server, and delete its cookie. The token stays valid."""
    await request.app.state.callers.sign_out(request)
    response = RedirectResponse("/login", status_code=303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


def _own_path(target: str) -> str:
    """Return ``target`` if it is a path of this site, else ``/``. A link must not redirect to another site."""
    # Browsers read a backslash as a slash, and drop unprintable characters. Either could turn the path into `//…`.
    is_own = target.startswith("/") and not target.startswith("//") and "\\" not in target
    return target if is_own and target.isprintable() else "/"

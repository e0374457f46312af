"""The page of users: add and change them, make and revoke tokens, and see who did so."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ramq.services.quotas import Whom
from ramq.web.api.users import UserName
from ramq.web.deps import Cursor, Id, ServicesDep, caller_of, templates_of
from ramq.web.problems import problem_of
from ramq.wiring import Services
from storage.accounts import ROLES
from storage.errors import UsageError

router = APIRouter(include_in_schema=False)

_Field = Annotated[str, Form(max_length=200)]
_EVENTS = 50
_QUOTAS = {
    "images_waiting": "Images in flight",
    "images_a_day": "Images a day",
    "jobs_at_once": "Jobs at once",
    "highest_priority": "Highest priority",
    "searches_per_second": "Searches per second",
    "share": "Share of the workers",
}


@router.get("/users")
def show_users(request: Request, services: ServicesDep) -> HTMLResponse:
    """Show the users and their tokens, and the forms to change both."""
    return _screen(request, services)


@router.post("/users")
def add_user(request: Request, services: ServicesDep, name: _Field = "", role: _Field = "look") -> Response:
    """Add a user. Errors are shown above the list."""
    try:
        services.accounts.add(name.strip(), role, by=caller_of(request))
    except UsageError as error:
        return _screen(request, services, refusal=error, form={"name": name, "role": role})
    return RedirectResponse("/users", status_code=303)


@router.get("/users/history")
def show_history(request: Request, services: ServicesDep, cursor: Cursor = None) -> HTMLResponse:
    """Show who changed what about users and tokens, the newest first."""
    page = services.accounts.history(limit=_EVENTS, cursor=cursor)
    return templates_of(request).show(request, "user_history.html", page=page)


@router.post("/users/quotas")
def set_quota(
    request: Request,
    services: ServicesDep,
    kind: _Field,
    amount: _Field = "",
    user: _Field = "",
    archive: Annotated[str, Form(max_length=4_096)] = "",
) -> Response:
    """Set a quota, or remove it if no amount is given. Errors are shown above the list."""
    whom, by = Whom(user=user.strip() or None, archive=archive.strip() or None), caller_of(request)
    try:
        if amount.strip():
            services.quotas.put(kind, amount.strip(), whom, by=by)
        else:
            services.quotas.drop(kind, whom, by=by)
    except UsageError as error:
        form = {"kind": kind, "amount": amount, "user": user, "archive": archive}
        return _screen(request, services, refusal=error, quota_form=form)
    return RedirectResponse("/users#quotas", status_code=303)


@router.post("/users/{name}")
def change_user(
    request: Request,
    services: ServicesDep,
    name: UserName,
    say: Annotated[Literal["role", "enable", "disable", "rename", "remove"], Form()],
    role: _Field = "",
    to: _Field = "",
) -> Response:
    """Change a user. Errors are shown above the list."""
    accounts, by = services.accounts, caller_of(request)
    try:
        if say == "remove":
            accounts.remove(name, by=by)
        elif say == "role":
            accounts.change(name, role=role, by=by)
        elif say == "rename":
            accounts.change(name, to=to.strip(), by=by)
        else:
            accounts.change(name, is_enabled=say == "enable", by=by)
    except UsageError as error:
        return _screen(request, services, refusal=error)
    return RedirectResponse("/users", status_code=303)


@router.post("/users/{name}/tokens")
def create_token(
    request: Request, services: ServicesDep, name: UserName, role: _Field = "", expires: _Field = "", note: _Field = ""
) -> Response:
    """Make a token and show its secret, in this answer alone."""
    try:
        made = services.accounts.create_token(
            name, role=role or None, expires=expires.strip() or None, note=note.strip(), by=caller_of(request)
        )
    except UsageError as error:
        return _screen(request, services, refusal=error)
    return _screen(request, services, made=made)


@router.post("/tokens/{token_id}/revoke")
def revoke_token(request: Request, services: ServicesDep, token_id: Id) -> Response:
    """Revoke a token. Errors are shown above the list."""
    try:
        services.accounts.revoke(token_id, by=caller_of(request))
    except UsageError as error:
        return _screen(request, services, refusal=error)
    return RedirectResponse("/users", status_code=303)


def _screen(
    request: Request,
    services: Services,
    *,
    refusal: UsageError | None = None,
    form: dict[str, str] | None = None,
    quota_form: dict[str, str] | None = None,
    **more: Any,
) -> HTMLResponse:
    problem = None if refusal is None else problem_of(refusal)
    tokens = services.accounts.tokens()
    users = services.accounts.users()
    return templates_of(request).show(
        request,
        "users.html",
        status=problem.status if problem else 200,
        users=[(user, [token for token in tokens if token.user == user.name]) for user in users],
        roles=ROLES,
        of_settings=len(services.settings.api_tokens),
        form={"name": "", "role": "look"} | (form or {}),
        problem=problem,
        use=services.quotas.use(),
        everybody=[quota for quota in services.quotas.list() if quota.subject == "default"],
        quota_kinds=_QUOTAS,
        quota_form=dict.fromkeys(("kind", "amount", "user", "archive"), "") | (quota_form or {}),
        **{"made": None} | more,
    )

"""The page of tag rules, for all archives and for single ones."""

from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ramq.web.deps import MAX_TEXT, ServicesDep, caller_of, templates_of
from ramq.web.problems import problem_of
from ramq.wiring import Services
from storage.errors import UsageError

if TYPE_CHECKING:
    from storage.results.views import PolicyView

router = APIRouter(include_in_schema=False, prefix="/archives/policies")


@router.get("")
def show_policies(
    request: Request, services: ServicesDep, archive: Annotated[str, Query(max_length=MAX_TEXT)] = ""
) -> HTMLResponse:
    """Show the rules, those for all archives first, and the form for a new one. ``archive`` presets the form."""
    return _screen(request, services, form={"archive": archive})


@router.post("")
def change_policy(
    request: Request,
    services: ServicesDep,
    say: Annotated[Literal["deny", "allow", "no_thing", "nothing"], Form()],
    tag: Annotated[str, Form(max_length=MAX_TEXT)] = "",
    archive: Annotated[str, Form(max_length=MAX_TEXT)] = "",
    kind: Annotated[Literal["deny", "allow", "no_thing"] | None, Form()] = None,
) -> Response:
    """Add a rule, or remove one: that of a ``kind``, or all of the tag.

    An unknown tag leads to an error on the same page, with similar names.
    """
    try:
        if say == "nothing":
            services.policies.clear(tag, archive or None, kind)
        else:
            services.policies.put(tag, say, archive or None, by=caller_of(request))
    except UsageError as error:
        return _screen(request, services, form={"tag": tag, "say": say, "archive": archive}, refusal=error)
    return RedirectResponse("/archives/policies", status_code=303)


def _screen(
    request: Request, services: Services, *, form: dict[str, str], refusal: UsageError | None = None
) -> HTMLResponse:
    problem = None if refusal is None else problem_of(refusal)
    rules: dict[str, list[PolicyView]] = {}
    for rule in services.policies.list():
        rules.setdefault(rule.archive or "", []).append(rule)
    return templates_of(request).show(
        request,
        "policies.html",
        status=problem.status if problem else 200,
        rules=rules,
        archives=services.archives.names(),
        form={"tag": "", "say": "deny", "archive": ""} | form,
        problem=problem,
    )

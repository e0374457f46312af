"""Errors as RFC 9457 problem documents for programs, and as an HTML page for people.

``type`` is ``urn:ramq:problem:CODE``. CODE is the stable code of the error (``storage.errors``), with hyphens.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from ramq.schemas.problem import FieldProblem, Problem, QuotaProblem
from ramq.web.request_ids import headers as number_of_request
from ramq.web.request_ids import trace_id
from ramq.web.security import SECURITY_HEADERS
from storage.errors import (
    ConflictError,
    ForbiddenError,
    ModelMissingError,
    NotFoundError,
    PermanentError,
    RamqError,
    TransientError,
    UsageError,
)
from storage.ledger.quotas import QuotaError
from storage.ledger.views import PRIORITY_NAMES
from storage.objects.base import CredentialsError
from storage.search.language import pointer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastapi import FastAPI, Request
    from starlette.requests import HTTPConnection

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5

_OF_IMAGE = re.compile(r"(?P<before>(?:/v1)?/images/)(?P<id>[0-9]{1,18})(?P<after>(?:/[^/]+)*)")

# The first class that matches decides, so subclasses come before their base classes.
_STATUS: tuple[tuple[type[RamqError], int], ...] = (
    (NotFoundError, 404),
    (ConflictError, 409),
    (ForbiddenError, 403),
    (ModelMissingError, 503),
    (UsageError, 422),
    (PermanentError, 422),
    (TransientError, 503),
    (CredentialsError, 503),
)
_TITLES = {
    400: "Bad request",
    401: "A token is required",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    421: "Wrong host",
    422: "Invalid request",
    429: "Too many requests",
    500: "Server error",
    503: "Service unavailable",
}
CODES = {
    400: "bad-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-media-type",
    421: "wrong-host",
    429: "too-many-requests",
    503: "service-unavailable",
}


def make_problem(status: int, code: str, detail: str, **more: Any) -> Problem:
    """Return the problem document for ``code``. ``more`` holds the fields that only some problems have."""
    title = _TITLES.get(status, "Error")
    kind = f"urn:ramq:problem:{code.replace('_', '-')}"
    return Problem(type=kind, title=title, status=status, detail=detail, trace_id=trace_id(), **more)


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return ``problem`` as ``application/problem+json``."""
    content = problem.model_dump(exclude_none=True)
    return JSONResponse(content, status_code=problem.status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def problem_of(error: RamqError, q: str | None = None) -> Problem:
    """Return the problem document for ``error``, with its place in the text ``q`` of the query if it has one."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if isinstance(error, QuotaError):
        return make_problem(status, error.code, str(error), quota=_quota_problem(error))
    if not q or not isinstance(error, UsageError) or error.at is None:
        return make_problem(status, error.code, str(error))
    return make_problem(status, error.code, str(error), at=error.at, pointer=pointer(q, error))


def _quota_problem(error: QuotaError) -> QuotaProblem:
    full = error.quota
    is_priority = full.kind == "highest_priority"
    amount, used = (PRIORITY_NAMES[int(each)] if is_priority else each for each in (full.amount, full.used))
    return QuotaProblem(kind=full.kind, subject=full.subject, name=full.name, amount=amount, used=used)


def wants_html(request: HTTPConnection) -> bool:
    """Return whether a browser asked for an HTML page."""
    is_for_machines = request.url.path.startswith(("/v1/", "/static/"))
    return not is_for_machines and "text/html" in request.headers.get("accept", "")


def install_problem_handlers(
    app: FastAPI, render: Callable[[Request, Problem], Response], merged_into: Callable[[int], int | None]
) -> None:
    """Answer every error of ``app`` with a problem document, or with ``render`` if a browser asked for a page.

    Who reads an image that was merged into another one (``merged_into``) is sent on to that one.
    """

    def answer(request: Request, problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
        if not wants_html(request):
            return problem_response(problem, headers)
        response = render(request, problem)
        response.headers.update(headers or {})
        return response

    def on_ramq_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RamqError)
        if isinstance(error, NotFoundError) and (elsewhere := _elsewhere(request, merged_into)):
            return RedirectResponse(elsewhere, status_code=308)
        problem = problem_of(error, request.query_params.get("q"))
        if problem.status == 500:
            log.error("request_failed", extra={"path": request.url.path, "code": error.code, "detail": str(error)})
        return answer(request, problem, {"Retry-After": str(RETRY_AFTER_SECONDS)} if problem.status == 503 else None)

    def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        fields = [_field_problem(item) for item in error.errors()]
        detail = "; ".join(f"{field.field}: {field.detail}" for field in fields)
        return answer(request, make_problem(422, "invalid-request", detail, errors=fields))

    def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = CODES.get(error.status_code, f"http-{error.status_code}")
        return answer(request, make_problem(error.status_code, code, error.detail), error.headers)

    def on_bug(request: Request, error: Exception) -> Response:
        log.error("request_crashed", exc_info=error, extra={"path": request.url.path})
        problem = make_problem(500, "internal", "The server failed to handle the request. See its log for the reason.")
        # This response is created outside the middleware that adds these headers to all others.
        return answer(request, problem, {**SECURITY_HEADERS, **number_of_request()})

    app.add_exception_handler(RamqError, on_ramq_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_bug)


def _elsewhere(request: Request, merged_into: Callable[[int], int | None]) -> str | None:
    """Return where the image of a request is, if it was merged into another one; None: it was not."""
    named = _OF_IMAGE.fullmatch(request.url.path)
    if named is None or request.method not in {"GET", "HEAD"}:
        return None
    image_id = merged_into(int(named["id"]))
    if image_id is None:
        return None
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{named['before']}{image_id}{named['after']}{query}"


def _field_problem(item: Mapping[str, Any]) -> FieldProblem:
    return FieldProblem(field=".".join(str(part) for part in item["loc"]), detail=str(item["msg"]))

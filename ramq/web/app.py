"""The web application, assembled from its services. This file reads nothing from the environment."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, Response
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from ramq.schemas.problem import Problem
from ramq.services.query_models import DECODERS
from ramq.web.api import backlog as api_backlog
from ramq.web.api import dataset_steps as api_dataset_steps
from ramq.web.api import datasets as api_datasets
from ramq.web.api import duplicates as api_duplicates
from ramq.web.api import erasures, health, images, missing, readings, regions
from ramq.web.api import export as api_export
from ramq.web.api import generations as api_generations
from ramq.web.api import jobs as api_jobs
from ramq.web.api import keywords as api_keywords
from ramq.web.api import quotas as api_quotas
from ramq.web.api import reviews as api_reviews
from ramq.web.api import stages as api_stages
from ramq.web.api import teaching as api_teaching
from ramq.web.api import training as api_training
from ramq.web.api import users as api_users
from ramq.web.api import watches as api_watches
from ramq.web.callers import Callers
from ramq.web.deps import takes_known_parameters
from ramq.web.head import Head
from ramq.web.metrics import WebMetrics
from ramq.web.pages import archives, login, reference, search
from ramq.web.pages import datasets as dataset_pages
from ramq.web.pages import duplicates as duplicate_pages
from ramq.web.pages import generations as generation_pages
from ramq.web.pages import images as image_pages
from ramq.web.pages import jobs as job_pages
from ramq.web.pages import keywords as keyword_pages
from ramq.web.pages import missing as missing_pages
from ramq.web.pages import policies as policy_pages
from ramq.web.pages import reviews as review_pages
from ramq.web.pages import teaching as teaching_pages
from ramq.web.pages import training as training_pages
from ramq.web.pages import users as user_pages
from ramq.web.places import Places
from ramq.web.problems import (
    CODES,
    MEDIA_TYPE,
    install_problem_handlers,
    make_problem,
    problem_response,
    wants_html,
)
from ramq.web.rate_limit import RateLimit
from ramq.web.render import STATIC, Templates
from ramq.web.request_ids import RequestIds, is_for_machines
from ramq.web.roles import Roles, Route, describe
from ramq.web.security import Gate
from ramq.web.streams import Streams
from ramq.web.tokens import Tokens
from ramq.web.turns import Turns
from ramq.web.uploads import Pictures

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from starlette.exceptions import HTTPException
    from starlette.requests import HTTPConnection
    from starlette.types import Scope

    from ramq.wiring import Services

OPENAPI_PATH = "/v1/openapi.json"
REMEMBERED_PICTURES_BYTES = 128 * 1024 * 1024

UPLOADS, UPLOAD_WAIT_SECONDS = 2 * DECODERS, 10.0
"""How many searches by a picture are answered at a time, and how long others wait for their turn."""

SHOWN, SHOWN_WAIT_SECONDS = 8, 60.0
"""The same of thumbnails and parts of pictures: a page has 60."""

# Every operation of the API may return any of these. All are problem documents.
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description}
    for status, description in (
        (400, "Bad request"),
        (401, "A token is required"),
        (403, "Not allowed, or not allowed with this token"),
        (404, "Not found"),
        (409, "Conflict with the current state"),
        (413, "The request is too large"),
        (422, "Invalid request"),
        (429, "Too many requests"),
        (503, "A required service is unavailable"),
    )
}


class _KeptFiles(StaticFiles):
    """Static files whose URLs contain a hash of their content, so that browsers may cache them without limit."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        is_stamped = b"v=" in scope.get("query_string", b"")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if is_stamped else "no-cache"
        return response


def create_app(services: Services, *, is_stopping: Callable[[], bool] = lambda: False) -> FastAPI:
    """Return the API and the page over ``services``.

    Args:
        services: the services that the routes call.
        is_stopping: returns whether the server is shutting down. Event streams end then.
    """
    tokens = Tokens(services.settings.api_tokens)
    callers = Callers(tokens, lambda: services.accounts, is_reachable=services.is_reachable)
    metrics = WebMetrics(services)
    templates = Templates(callers, has_trainings=lambda: services.trainings.are_there)
    roles = Roles([Route("GET", OPENAPI_PATH)])
    limit = RateLimit(services.settings.rate_limit, time.monotonic)

    app = FastAPI(
        lifespan=_lifespan(services, callers),
        title="ramq",
        version=version("ramq"),
        description="Tags, captions and search for large image archives.",
        openapi_url=OPENAPI_PATH,
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
        telemetry={
            "auto_configure": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "exclude": is_for_machines,
        },
        middleware=[
            Middleware(RequestIds),
            Middleware(metrics.counting),
            Middleware(Gate, callers=callers, roles=roles, limit=limit, refuse=_refusing(templates)),
            Middleware(Head),
        ],
    )
    app.state.services, app.state.templates = services, templates
    app.state.callers, app.state.roles = callers, roles
    app.state.metrics = metrics
    app.state.pictures = Pictures(REMEMBERED_PICTURES_BYTES)
    app.state.uploads = Places(UPLOADS, UPLOAD_WAIT_SECONDS, "searches by a picture are being answered")
    app.state.shown = Places(SHOWN, SHOWN_WAIT_SECONDS, "pictures are being made smaller")
    app.state.readiness = Places(4, UPLOAD_WAIT_SECONDS, "checks of the services are running")
    app.state.teaching_turns = Turns()
    app.state.exports = Streams()
    app.state.is_stopping, app.state.limit = is_stopping, limit
    install_problem_handlers(app, templates.show_problem, services.images.merged_into)
    _add_routes(app, roles)
    app.mount("/static", _KeptFiles(directory=STATIC), name="static")
    _describe(app, needs_tokens=tokens.are_set)
    return app


def _add_routes(app: FastAPI, roles: Roles) -> None:
    """Add all routes, the more special ones before those that take any name."""
    of_jobs = (api_jobs.router, api_jobs.workers_router, api_watches.router)
    of_images = (images.router, erasures.router, api_export.router, readings.router, regions.router)
    of_groups = (api_duplicates.router, missing.router, api_keywords.router)
    # A step before actions of any name.
    of_datasets = (api_dataset_steps.router, api_datasets.router)
    learning = (api_training.router, *of_datasets, api_reviews.router, api_teaching.router)
    others = (api_backlog.router, api_generations.router, api_stages.router, api_users.router, api_quotas.router)
    for router in (*of_jobs, *of_images, *of_groups, *learning, *others):
        app.include_router(router, responses=_PROBLEMS, dependencies=[Depends(takes_known_parameters)])
        roles.add(router)
    pages = (search, image_pages, job_pages, generation_pages, training_pages, policy_pages, duplicate_pages, archives)
    # Reviews come first: `review` would be an action on a data set.
    of_sets = (review_pages, dataset_pages, teaching_pages, keyword_pages, missing_pages)
    for page in (health, *pages, *of_sets, user_pages, reference, login):
        app.include_router(page.router)
        roles.add(page.router)


def _lifespan(services: Services, callers: Callers) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(callers.refresh)  # whether tokens are needed is known before the first request
        with (
            services.databases.watched(),
            services.search.region_warmer.running(),
            services.index.following(),
            services.shadow.comparer.running(),
        ):
            yield

    return lifespan


def _refusing(templates: Templates) -> Callable[[HTTPConnection, HTTPException], Response]:
    def refuse(connection: HTTPConnection, error: HTTPException) -> Response:
        problem = make_problem(error.status_code, CODES[error.status_code], error.detail)
        if wants_html(connection):
            return templates.show_problem(connection, problem)
        return problem_response(problem, error.headers)

    return refuse


def _describe(app: FastAPI, *, needs_tokens: bool) -> None:
    """Complete the OpenAPI document, and remember the parameters of each route.

    FastAPI does not know that errors are problem documents, and which tokens are required.
    """
    document = app.openapi()
    app.state.parameters = {
        (method.upper(), path): {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if status >= "400" and "application/json" in answer.get("content", {}):
                    answer["content"] = {MEDIA_TYPE: answer["content"]["application/json"]}
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    describe(document, needs_tokens=needs_tokens)

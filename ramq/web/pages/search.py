"""The search page: search by text, tags, similarity and pictures. Every state of it has a URL of its own."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from ramq.schemas.problem import Problem
from ramq.web.deps import MAX_TEXT, Search, SearchForm, SearchFormDep, ServicesDep, templates_of
from ramq.web.pages.completion import completions, tag_names
from ramq.web.pages.links import Links
from ramq.web.problems import problem_of
from ramq.web.uploads import picture_type, read_picture
from ramq.wiring import Services
from storage.errors import PermanentError, UsageError
from storage.search.views import Faceted, HitPage

HITS_PER_SCREEN = 60
FACETS = 40

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """What somebody sent with the form for keywords, and why it was refused."""

    problem: Problem
    words: str
    which: str
    with_tags: bool
    ticked: frozenset[int]


Picture = Annotated[str | None, Query(pattern="^([0-9a-f]{64})?$")]


@router.get("/")
async def show_search(
    request: Request, services: ServicesDep, asked: SearchFormDep, picture: Picture = None
) -> Response:
    """Show the hits, the facets that narrow the search, and the search form."""
    return await show_screen(request, services, asked, picture or None)


async def show_screen(
    request: Request, services: Services, asked: SearchForm, picture: str | None, refused: Refused | None = None
) -> Response:
    """Return the page of a search, with what was refused of its form for keywords. Raises ``BusyError``."""
    if picture is None:
        return await run_in_threadpool(_screen, request, services, asked, picture, refused)
    shown: Response = await request.app.state.uploads.run(_screen, request, services, asked, picture, refused)
    return shown


def _screen(
    request: Request, services: Services, asked: SearchForm, picture: str | None, refused: Refused | None
) -> Response:
    problem = None
    try:
        links = Links(services.search.read(asked.others, asked.q), picture)
    except UsageError as error:
        links, problem = Links(asked.others, picture), problem_of(error)
    is_partial = request.headers.get("hx-request") == "true"
    if not is_partial and refused is None and _has_blanks(request.query_params.multi_items()):
        # Forms send empty fields too. Redirect to the URL without them, so that people can copy it.
        filled = [(name, value) for name, value in request.query_params.multi_items() if value.strip()]
        return RedirectResponse(f"/?{urlencode(filled)}", status_code=303)
    if not request.query_params.get("limit"):
        links = Links(replace(links.query, limit=HITS_PER_SCREEN), picture)
    found = Faceted(HitPage(items=[]), [], None, None)
    is_more = is_partial and bool(links.query.cursor) and refused is None
    if problem is None:
        found, problem = _find(request, services, links, 0 if is_more else FACETS)
    if is_more and problem is None:
        return _show(request, "_hits.html", links=links, hits=found.page, refused=None)
    return _show(
        request,
        "search.html",
        status=problem.status if problem else refused.problem.status if refused else 200,
        asked=asked,
        links=links,
        hits=found.page,
        problem=problem,
        refused=refused,
        facets=found.tags,
        located=found.regions,
        files=found.files,
        archives=services.archives.names(),
        **services.search.offers()._asdict(),
        can_show_picture=_can_show(request, picture),
    )


def _find(request: Request, services: Services, links: Links, count: int) -> tuple[Faceted, Problem | None]:
    """Search, with ``count`` facets. Return errors of the user as a problem, which is shown below the form."""
    try:
        if links.picture is None:
            with request.app.state.metrics.search_seconds("query"):
                if count:
                    return services.search.page_with_facets(links.query, count), None
                return Faceted(services.search.page(links.query), [], None, None), None
        picture = request.app.state.pictures.get(links.picture)
        with request.app.state.metrics.search_seconds("image"):
            if count:
                return services.search.page_with_facets(links.query, count, picture), None
            return Faceted(services.search.by_image(picture, links.query), [], None, None), None
    except (UsageError, PermanentError) as error:
        return Faceted(HitPage(items=[]), [], None, None), problem_of(error)


def _can_show(request: Request, picture: str | None) -> bool:
    try:
        return picture is not None and bool(picture_type(request.app.state.pictures.get(picture)))
    except UsageError:
        return False


def _has_blanks(pairs: Iterable[tuple[str, str]]) -> bool:
    return any(not value.strip() for _, value in pairs)


def _show(request: Request, template: str, *, status: int = 200, **context: object) -> HTMLResponse:
    response = templates_of(request).show(request, template, status=status, **context)
    response.headers["Vary"] = "HX-Request"
    return response


@router.post("/search/image")
async def search_by_picture(request: Request, query: Search) -> RedirectResponse:
    """Store the picture, and redirect to the page of images similar to it."""
    picture = await read_picture(request)
    name = await run_in_threadpool(request.app.state.pictures.put, picture)
    return RedirectResponse(
        Links(replace(query, text=None, like=None, unlike=(), like_region=None), name).changed(), status_code=303
    )


@router.get("/pictures/{name}")
def show_picture(request: Request, name: str) -> Response:
    """Return a query picture. Its headers make browsers treat it only as an image."""
    picture = request.app.state.pictures.get(name)
    headers = {"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "private, max-age=600"}
    return Response(picture, media_type=picture_type(picture), headers=headers)


@router.get("/suggest")
def suggest(
    request: Request,
    services: ServicesDep,
    q: str = "",
    at: Annotated[int | None, Query(ge=0, description="position of the cursor; default: the end")] = None,
) -> HTMLResponse:
    """Return the completions of the term that ends at the cursor."""
    text = q.replace("\0", " ")
    is_short = len(text) <= MAX_TEXT
    options = completions(services, text, len(text) if at is None else min(at, len(text)), limit=12) if is_short else []
    return _show(request, "_suggestions.html", options=options)


@router.get("/suggest/tags")
def suggest_tag_names(request: Request, services: ServicesDep, q: str = "") -> HTMLResponse:
    """Return the completions of the name of a tag."""
    text = q.replace("\0", " ")
    options = tag_names(services, text, limit=12) if len(text) <= MAX_TEXT else []
    return _show(request, "_suggestions.html", options=options)

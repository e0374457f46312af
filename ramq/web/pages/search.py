"""The search page: search by text, tags, similarity and pictures. Every state of it has a URL of its own."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from ramq.schemas.problem import Problem
from ramq.web.deps import MAX_TEXT, Search, SearchFormDep, ServicesDep, query_string, templates_of
from ramq.web.pages.completion import completions, tag_names
from ramq.web.problems import problem_of
from ramq.web.uploads import picture_type, read_picture
from ramq.wiring import Services
from storage.errors import PermanentError, UsageError
from storage.search.language import (
    AllOf,
    Expression,
    NotOf,
    Parsed,
    TagTerm,
    all_of,
    format,  # noqa: A004  (the inverse of its parse)
    parse,
    pieces,
    wanted_tags,
)
from storage.search.language.parser import MAX_UNLIKE
from storage.search.language.writer import Piece
from storage.search.views import Facet, HitPage, RegionFacet, RegionFacets, SearchQuery

HITS_PER_SCREEN = 60
FACETS = 40

router = APIRouter(include_in_schema=False)

Picture = Annotated[str | None, Query(pattern="^([0-9a-f]{64})?$")]


@dataclass(frozen=True, slots=True)
class Links:
    """The current search, and links that each change one thing about it.

    Attributes:
        query: the search.
        picture: the name of an uploaded query picture.
    """

    query: SearchQuery
    picture: str | None
    _with_tag: dict[str, str] = field(default_factory=dict)

    def to(self, query: SearchQuery) -> str:
        """Return the link that shows ``query`` with the same picture."""
        picture = urlencode({"picture": self.picture}) if self.picture else ""
        return "/?" + "&".join(filter(None, (query_string(query), picture)))

    def changed(self, **changes: object) -> str:
        """Return the link to the first page of the query with ``changes``."""
        return self.to(replace(self.query, **{"cursor": None, **changes}))  # type: ignore[arg-type]  # fields of the query

    def with_tag(self, tag: str) -> str:
        """Return the link that also requires ``tag``. It is kept, because many hits of a page have the same tags."""
        if tag not in self._with_tag:
            self._with_tag[tag] = self.changed(where=all_of([*self._parts, TagTerm(tag)]))
        return self._with_tag[tag]

    def without_tag(self, tag: str) -> str:
        """Return the link without the term that requires only ``tag``."""
        left = [part for part in self._parts if not (isinstance(part, TagTerm) and _is_same(part.name, tag))]
        tags = tuple(other for other in self.query.tags if not _is_same(other, tag))
        return self.changed(where=all_of(left), tags=tags)

    def toggling(self, tag: str) -> str:
        """Return the link that requires ``tag``, or that no longer does if a term already requires only this tag."""
        without = self.without_tag(tag)
        return self.with_tag(tag) if without == self.changed() else without

    def excluding(self, tag: str) -> str:
        """Return the link that excludes the images with ``tag``."""
        return self.changed(where=all_of([*self._parts, NotOf(TagTerm(tag))]))

    def narrowing(self, facet: RegionFacet) -> str:
        """Return the link that also requires so many regions of a tag."""
        wanted = _parts_of(parse(facet.query).where)
        return self.changed(where=all_of([*self._parts, *(part for part in wanted if part not in self._parts)]))

    def dropping(self, field: str, tag: str) -> str:
        """Return the link without ``tag`` in the parameter of ``field``."""
        return self.changed(**{field: tuple(other for other in getattr(self.query, field) if other != tag)})

    def not_this(self, image_id: int) -> str:
        """Return the link without an image and with less of what is like it."""
        return self.changed(unlike=(*self.query.unlike, image_id))

    def this_again(self, image_id: int) -> str:
        """Return the link that takes ``not_this`` back."""
        return self.changed(unlike=tuple(other for other in self.query.unlike if other != image_id))

    @property
    def learns(self) -> bool:
        """Whether a person can say of a hit that it is not meant."""
        has_image = bool(self.query.like or self.picture) and not self.query.like_region
        return has_image and len(self.query.unlike) < MAX_UNLIKE

    def after(self, cursor: str) -> str:
        """Return the link to the hits after ``cursor``."""
        return self.to(replace(self.query, cursor=cursor))

    def without_picture(self) -> str:
        """Return the link without the query picture."""
        return Links(self.query, None).changed()

    @property
    def chips(self) -> list[tuple[Piece, str]]:
        """The parts of the text in the search box, each with the link that removes it."""
        parsed = Parsed(self.query.text, self.query.where, generation=self.query.generation)
        return [
            (piece, self.changed(text=piece.rest.text, where=piece.rest.where, generation=piece.rest.generation))
            for piece in pieces(parsed)
        ]

    @property
    def q(self) -> str:
        """The text in the search box, as the language writes it."""
        return format(Parsed(self.query.text, self.query.where, generation=self.query.generation))

    @property
    def asked(self) -> frozenset[str]:
        """The required tags, as names in lower case and ids. They explain why an image matches."""
        terms = [term.name for term in wanted_tags(self.query.where)]
        return frozenset(tag.casefold() for tag in (*terms, *self.query.tags, *self.query.any_tags))

    @property
    def is_ranked(self) -> bool:
        """Whether hits are ranked by the similarity of their vectors."""
        return bool(self.query.text or self.query.like or self.query.like_region or self.picture)

    @property
    def is_everything(self) -> bool:
        """Whether nothing narrows the search."""
        return not self.is_ranked and not query_string(replace(self.query, cursor=None, special=False))

    @property
    def _parts(self) -> tuple[Expression, ...]:
        return _parts_of(self.query.where)


def _parts_of(where: Expression | None) -> tuple[Expression, ...]:
    return where.parts if isinstance(where, AllOf) else () if where is None else (where,)


def _is_same(tag: str, other: str) -> bool:
    return tag.casefold() == other.casefold()


@router.get("/")
def show_search(request: Request, services: ServicesDep, asked: SearchFormDep, picture: Picture = None) -> Response:
    """Show the hits, the facets that narrow the search, and the search form."""
    picture = picture or None
    problem = None
    try:
        links = Links(services.search.read(asked.others, asked.q), picture)
    except UsageError as error:
        links, problem = Links(asked.others, picture), problem_of(error)
    is_partial = request.headers.get("hx-request") == "true"
    if not is_partial and _has_blanks(request.query_params.multi_items()):
        # Forms send empty fields too. Redirect to the URL without them, so that people can copy it.
        filled = [(name, value) for name, value in request.query_params.multi_items() if value.strip()]
        return RedirectResponse(f"/?{urlencode(filled)}", status_code=303)
    if not request.query_params.get("limit"):
        links = Links(replace(links.query, limit=HITS_PER_SCREEN), picture)
    hits: HitPage = HitPage(items=[])
    facets: list[Facet] = []
    located: RegionFacets | None = None
    is_more = is_partial and bool(links.query.cursor)
    if problem is None:
        hits, facets, located, problem = _find(request, services, links, 0 if is_more else FACETS)
    if is_more and problem is None:
        return _show(request, "_hits.html", links=links, hits=hits)
    return _show(
        request,
        "search.html",
        status=problem.status if problem else 200,
        asked=asked,
        links=links,
        hits=hits,
        problem=problem,
        facets=facets,
        located=located,
        archives=services.archives.names(),
        examples=services.search.example_tags(),
        spaces=services.search.spaces(),
        spaces_of_texts=services.search.spaces_of_texts(),
        can_show_picture=_can_show(request, picture),
    )


def _find(
    request: Request, services: Services, links: Links, count: int
) -> tuple[HitPage, list[Facet], RegionFacets | None, Problem | None]:
    """Search, with ``count`` facets. Return errors of the user as a problem, which is shown below the form."""
    try:
        if links.picture is None:
            with request.app.state.metrics.search_seconds("query"):
                if count:
                    return *services.search.page_with_facets(links.query, count), None
                return services.search.page(links.query), [], None, None
        picture = request.app.state.pictures.get(links.picture)
        with request.app.state.metrics.search_seconds("image"):
            if count:
                return *services.search.page_with_facets(links.query, count, picture), None
            return services.search.by_image(picture, links.query), [], None, None
    except (UsageError, PermanentError) as error:
        return HitPage(items=[]), [], None, problem_of(error)


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

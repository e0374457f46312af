"""Dependencies and parameters of the routes: the services, ids that fit the database, the search."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple, cast
from urllib.parse import urlencode

from fastapi import Depends, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, StringConstraints
from pydantic_core import PydanticUseDefault
from pydantic_core.core_schema import CoreSchema, no_info_before_validator_function

from ramq.services.author import LOCAL
from ramq.web.callers import caller_in
from ramq.web.render import Templates
from ramq.web.streams import Streams
from ramq.web.turns import Turns
from ramq.wiring import Services
from storage.errors import NotFoundError, UsageError
from storage.objects.base import CredentialsError
from storage.search.language import Parsed, format  # noqa: A004  (the inverse of its parse)
from storage.search.language.parser import MAX_UNLIKE
from storage.search.views import SearchQuery

MAX_ID = 2**63 - 1
MAX_TEXT = 2_000
MAX_TAGS = 64


async def services_of(request: Request) -> Services:
    """Return the services that the application was created with."""
    return cast("Services", request.app.state.services)


def templates_of(request: Request) -> Templates:
    """Return the templates of the application."""
    return cast("Templates", request.app.state.templates)


def caller_of(request: Request) -> str:
    """Return the name of who sends the request: that of the token's user, or ``local`` if none is needed.

    Everything that notes who said or did something notes this name.
    """
    token = caller_in(request).token
    return LOCAL if token is None else token.name


def teaching_turns_of(request: Request) -> Turns:
    """Return what lets one request at a time fit tags."""
    return cast("Turns", request.app.state.teaching_turns)


def exports_of(request: Request) -> Streams:
    """Return what sends exports."""
    return cast("Streams", request.app.state.exports)


def _blank_is_unset(value: Any) -> Any:
    if value == "":
        raise PydanticUseDefault
    return value


class _Blankable:
    """Treats an empty value as not given, because forms send their empty fields too. The OpenAPI document says so."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_before_validator_function(_blank_is_unset, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        described = handler(schema)
        kinds = described.get("anyOf", [described])
        if any(kind.get("type") == "string" for kind in kinds):
            return described
        return {"anyOf": [*kinds, {"type": "string", "maxLength": 0}]}


# Dependencies that never block are `async`. FastAPI runs each of the others in a thread, and eight clients at a time
# would mostly wait for threads.
ServicesDep = Annotated[Services, Depends(services_of)]
Id = Annotated[int, Path(ge=1, le=MAX_ID)]
# Place it after the constraints. Before them, pydantic would check a blank value against the constraints.
MAYBE_BLANK = _Blankable()
Limit = Annotated[int, Query(ge=1, le=500, description="items per page"), MAYBE_BLANK]
Cursor = Annotated[str | None, Query(max_length=1_000, description="`next_cursor` of the previous page"), MAYBE_BLANK]
MaybeId = Annotated[int | None, Query(ge=1, le=MAX_ID), MAYBE_BLANK]
_Unlike = Annotated[int, Field(ge=1, le=MAX_ID)]
_Tag = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
_Tags = Annotated[list[_Tag] | None, Query(max_length=MAX_TAGS, description="tag names (English or Chinese) or ids")]


def _tags(values: list[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value.strip() for value in values or () if value.strip()))


async def takes_known_parameters(request: Request) -> None:
    """Refuse unknown parameters. If one were ignored, a misspelled filter would return, or erase, everything."""
    known = request.app.state.parameters[request.method, request.scope["route"].path_format]
    for name in request.query_params:
        if name not in known:
            takes = f"the parameters are {', '.join(sorted(known))}" if known else "this address takes no parameters"
            message = f"unknown parameter, so nothing was done; {takes}"
            raise RequestValidationError([{"loc": ("query", name), "msg": message, "type": "value_error"}])


@contextmanager
def reading(source: str) -> Iterator[None]:
    """Say of a source in the body of a request why the server cannot read it.

    Raises:
        UsageError: it does not exist. The URL of the request does, so this is not a 404.
        CredentialsError: the server has no right to read it.
    """
    try:
        yield
    except NotFoundError as error:
        raise UsageError(str(error)) from error
    except CredentialsError as error:
        raise CredentialsError(f"this server cannot read {source}: {error}") from error


def absolute_source(text: str) -> str:
    """Return the source of an archive if it is absolute. A relative folder would depend on the server's directory.

    Raises:
        UsageError: it is relative.
    """
    if "://" not in text and not text.startswith(("/", "tar+/")):
        raise UsageError(f"{text!r} is a relative path; give s3://bucket/prefix, or the absolute path of a folder")
    return text


class SearchForm(NamedTuple):
    """The search in the query string: the text of the search box, and the other parameters."""

    q: str | None
    others: SearchQuery
    is_strict: bool


class Paging(NamedTuple):
    """The page of the hits, its maximum length, and their order."""

    limit: int
    cursor: str | None
    sort: str | None


async def paging(
    limit: Limit = 20,
    cursor: Cursor = None,
    sort: Annotated[
        Literal["taken", "taken-asc"] | None,
        Query(
            description="`taken`: by the date in the file, the newest first; `taken-asc`: the oldest first; images "
            "without one come last. Default: best first"
        ),
        MAYBE_BLANK,
    ] = None,
) -> Paging:
    """Read from the query string which page of the hits is requested."""
    return Paging(limit, cursor, sort)


async def typed_filters(  # noqa: PLR0913, PLR0917  (one argument for each parameter of the query string)
    request: Request,
    q: Annotated[
        str | None,
        Query(
            description="free text, tags and filters in the query language. Text that is not valid in it is searched "
            "as words, and `notes` say so",
            examples=["a red boat (castle OR palace) -daisy after:2024-01-01"],
        ),
        MAYBE_BLANK,
    ] = None,
    tag: _Tags = None,
    any: _Tags = None,  # noqa: A002  (the parameter's public name)
    not_: Annotated[list[_Tag] | None, Query(alias="not", max_length=MAX_TAGS, description="tags to exclude")] = None,
    like: MaybeId = None,
    not_like: Annotated[
        list[_Unlike] | None,
        Query(
            max_length=MAX_UNLIKE,
            description="images that are not meant: they are no hits, and with `like` or a picture, images that are "
            "like them are further away",
        ),
    ] = None,
    space: Annotated[
        str | None,
        Query(
            max_length=MAX_TEXT,
            description="the spaces in which text and image are compared, comma-separated or repeated: `text` (the "
            "vectors of recognition), `look` (how images look), `siglip`, `clip`, `dino`. Several are fused by rank; "
            "those that compare no texts are left out for a text. Default: texts as the server is set up, images by "
            "`look` if the image has such a vector, else by `text`",
            examples=["text,siglip"],
        ),
        MAYBE_BLANK,
    ] = None,
    like_region: Annotated[
        str | None,
        Query(
            pattern=r"^[1-9][0-9]{0,17}/[1-9][0-9]{0,2}$",
            description="a region, as its image's id and its number: find regions like it, in the images that match",
            examples=["12/3"],
        ),
        MAYBE_BLANK,
    ] = None,
    archive: Annotated[
        str | None, Query(max_length=MAX_TEXT, description="an archive's id or URI"), MAYBE_BLANK
    ] = None,
    job: MaybeId = None,
    prefix: Annotated[str | None, Query(max_length=MAX_TEXT, description="start of the key"), MAYBE_BLANK] = None,
    threshold: Annotated[float | None, Query(ge=0, le=1), MAYBE_BLANK] = None,
    relevance: Annotated[
        float | None,
        Query(
            ge=0,
            le=1,
            description="minimum relevance to the text, or to the image, 0 to 1; 0 disables the cutoff. To an image, "
            "it is the share of pairs of images that are less similar",
        ),
        MAYBE_BLANK,
    ] = None,
    fold: Annotated[  # noqa: FBT002  (a parameter of the query string)
        bool,
        Query(description="whether of images with the same bytes only the first that matches is a hit"),
        MAYBE_BLANK,
    ] = False,
    fold_near: Annotated[  # noqa: FBT002  (a parameter of the query string)
        bool,
        Query(description="whether of near copies, too, only the largest that matches is a hit"),
        MAYBE_BLANK,
    ] = False,
    special: Annotated[  # noqa: FBT002  (a parameter of the query string)
        bool,
        Query(description="whether facets count only the most special tags of an image: no animal, but a dog"),
        MAYBE_BLANK,
    ] = False,
    strict: Annotated[  # noqa: FBT002  (a parameter of the query string)
        bool, Query(description="whether to refuse a `q` that is not valid in the query language"), MAYBE_BLANK
    ] = False,
) -> SearchForm:
    """Read the search from the query string, without parsing its text."""
    for name, value in request.query_params.multi_items():
        if "\0" in value and name != "q":
            raise RequestValidationError(
                [{"loc": ("query", name), "msg": "must not contain NUL", "type": "value_error"}]
            )
    others = SearchQuery(
        like=like,
        unlike=tuple(dict.fromkeys(not_like or ())),
        space=",".join(filter(None, request.query_params.getlist("space"))) if space else None,
        like_region=_region(like_region),
        tags=_tags(tag),
        any_tags=_tags(any),
        not_tags=_tags(not_),
        archive=archive.strip() if archive else None,
        job=job,
        prefix=prefix,
        threshold=threshold,
        relevance=relevance,
        fold=fold,
        fold_near=fold_near,
        special=special,
    )
    return SearchForm(q, others, strict)


def _region(name: str | None) -> tuple[int, int] | None:
    if name is None:
        return None
    image_id, _, number = name.partition("/")
    return int(image_id), int(number)


FiltersDep = Annotated[SearchForm, Depends(typed_filters)]


async def typed_query(typed: FiltersDep, page: Annotated[Paging, Depends(paging)]) -> SearchForm:
    """Read a search and its page from the query string, without parsing its text."""
    return typed._replace(others=replace(typed.others, **page._asdict()))


SearchFormDep = Annotated[SearchForm, Depends(typed_query)]


def search_query(services: ServicesDep, asked: SearchFormDep) -> SearchQuery:
    """Read a search from the query string. The API and the page take the same parameters."""
    return services.search.read(asked.others, asked.q, is_strict=asked.is_strict)


Search = Annotated[SearchQuery, Depends(search_query)]


def filter_query(services: ServicesDep, typed: FiltersDep) -> SearchQuery:
    """Read a search without its page from the query string, for routes with their own paging."""
    return services.search.read(typed.others, typed.q, is_strict=typed.is_strict)


Filters = Annotated[SearchQuery, Depends(filter_query)]


def query_string(query: SearchQuery) -> str:
    """Return the query string of ``query``, without its limit. This is the inverse of ``search_query``."""
    q = format(Parsed(query.text, query.where, generation=query.generation))
    pairs = [("q", q)] if q else []
    pairs += [("tag", tag) for tag in query.tags]
    pairs += [("any", tag) for tag in query.any_tags]
    pairs += [("not", tag) for tag in query.not_tags]
    pairs += [("not_like", str(image_id)) for image_id in query.unlike]
    if query.like_region is not None:
        pairs.append(("like_region", "{}/{}".format(*query.like_region)))
    for name in ("like", "space", "archive", "job", "prefix", "threshold", "relevance", "sort", "cursor"):
        value = getattr(query, name)
        if value is not None:
            pairs.append((name, f"{value:g}" if isinstance(value, float) else str(value)))
    pairs += [(name, "1") for name in ("fold", "fold_near", "special") if getattr(query, name)]
    return urlencode(pairs)

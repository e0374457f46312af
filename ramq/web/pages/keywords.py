"""The pages of keywords that people give: the form of the search page, what was done, and its undoing."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from ramq.services.keywords import MAX_NAMED, STEP_SECONDS, in_files_told
from ramq.web.api.keywords import asked_in_words
from ramq.web.deps import (
    MAX_ID,
    MAX_TEXT,
    FiltersDep,
    Id,
    SearchForm,
    SearchFormDep,
    ServicesDep,
    caller_of,
    query_string,
    templates_of,
)
from ramq.web.pages.search import Picture, Refused, show_screen
from ramq.web.problems import problem_of
from ramq.wiring import Services
from storage.errors import NotFoundError, UsageError
from storage.results.keyword_acts import ActView

ACTS_PER_SCREEN = 30
WORDS_PER_SCREEN = 200

_APART = re.compile(r"[,;\n\uff0c\u3001\uff1b]")

router = APIRouter(include_in_schema=False)


class SaidOfImages(BaseModel):
    """The form of the search page: what to do with which images. ``back`` is the search."""

    say: Literal["give", "remove"]
    words: str = Field("", max_length=MAX_TEXT)
    which: Literal["chosen", "shown", "all"] = "chosen"
    image: list[Annotated[int, Field(ge=1, le=MAX_ID)]] = Field([], max_length=MAX_NAMED)
    shown: list[Annotated[int, Field(ge=1, le=MAX_ID)]] = Field([], max_length=MAX_NAMED)
    with_tags: bool = False
    back: str = Field("", max_length=20 * MAX_TEXT)


def words_in(text: str) -> list[str]:
    """Return the keywords in a field, which are written with commas between them."""
    return [word for word in (each.strip() for each in _APART.split(text)) if word]


@router.get("/keywords")
def show_keywords(
    request: Request,
    services: ServicesDep,
    beginning: Annotated[str, Query(max_length=MAX_TEXT)] = "",
    before: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None,
) -> HTMLResponse:
    """Show the keywords that people gave, and who did what when."""
    return _screen(request, services, beginning=beginning, before=before)


@router.post("/keywords")
async def change_keywords(
    request: Request,
    services: ServicesDep,
    asked: FiltersDep,
    search: SearchFormDep,
    said: Annotated[SaidOfImages, Form()],
    picture: Picture = None,
) -> Response:
    """Give keywords to images of a search, or remove them. Errors are shown on the page of the search."""
    done = await run_in_threadpool(_change, request, services, asked, said)
    if isinstance(done, Refused):
        return await show_screen(request, services, search, picture or None, done)
    return done


def _change(request: Request, services: Services, asked: SearchForm, said: SaidOfImages) -> Response | Refused:
    """Do what ``change_keywords`` was asked to do. Returns why not, if not."""
    by = caller_of(request)
    words = words_in(said.words)
    add, remove = (words, []) if said.say == "give" else ([], words)
    try:
        if said.which == "all":
            query = services.search.read(asked.others, asked.q)
            told = asked_in_words(query_string(query), asked.q) or "all images"
            act = services.keywords.begin_for_all(
                query, add=add, remove=remove, asked=told, with_tags=said.with_tags, by=by
            )
        else:
            ids = said.shown if said.which == "shown" else said.image
            if not ids:
                raise UsageError("no image is ticked; tick some of them, or choose all images")  # noqa: TRY301
            act = services.keywords.begin(ids, add=add, remove=remove, with_tags=said.with_tags, by=by)
        services.keywords.go_on(act.id, seconds=STEP_SECONDS)
    except UsageError as error:
        return Refused(problem_of(error), said.words, said.which, said.with_tags, frozenset(said.image))
    return _to(act, said.back)


@router.post("/keywords/rename")
def rename_keyword(
    request: Request,
    services: ServicesDep,
    old: Annotated[str, Form(max_length=MAX_TEXT)] = "",
    new: Annotated[str, Form(max_length=MAX_TEXT)] = "",
) -> Response:
    """Give all images that have one keyword another one instead."""
    try:
        act = services.keywords.begin_rename(old, new, caller_of(request))
        services.keywords.go_on(act.id, seconds=STEP_SECONDS)
    except UsageError as error:
        return _screen(request, services, refusal=error)
    return _to(act)


@router.get("/keywords/acts/{act_id}")
def show_act(
    request: Request, services: ServicesDep, act_id: Id, back: Annotated[str, Query(max_length=20 * MAX_TEXT)] = ""
) -> HTMLResponse:
    """Show what was done to keywords at one time, and how far it is."""
    act = services.keywords.act(act_id)
    is_tagged = {name.casefold() for name in act.tags}
    named = [one for one in services.keywords.tags_named(act.added) if one.tag.casefold() not in is_tagged]
    in_files = services.keywords.in_files(act.removed) if act.removed and act.state == "done" else 0
    return templates_of(request).show(
        request,
        "keyword_act.html",
        act=act,
        back=_search_in(back),
        named=[] if act.state == "undone" else named,
        left=in_files_told(in_files, act.removed),
    )


@router.post("/keywords/acts/{act_id}/{step}")
def step(
    request: Request,
    services: ServicesDep,
    act_id: Id,
    step: Literal["continue", "undo", "redo"],
    back: Annotated[str, Form(max_length=20 * MAX_TEXT)] = "",
) -> Response:
    """Work on an unfinished act for two seconds, or begin to undo or redo one."""
    act = services.keywords.act(act_id)
    if step == "undo" and act.state != "undone":
        act = services.keywords.begin_undo(act_id, caller_of(request))
    elif step == "redo" and act.undone_by is not None:
        act = services.keywords.begin_redo(act_id, caller_of(request))
    services.keywords.go_on(act_id, seconds=STEP_SECONDS)
    return _to(act, back)


@router.post("/images/{image_id}/keywords")
def change_keywords_of_image(
    request: Request,
    services: ServicesDep,
    image_id: Id,
    say: Annotated[Literal["give", "remove"], Form()],
    words: Annotated[str, Form(max_length=MAX_TEXT)] = "",
) -> Response:
    """Give one image keywords, or remove one. A word that cannot be a keyword leads to an error on the same page."""
    from ramq.web.pages.images import show_screen as show_image  # noqa: PLC0415  (its page has a form of this one)

    by = caller_of(request)
    try:
        if say == "give":
            act = services.keywords.begin([image_id], add=words_in(words), by=by)
        else:
            act = services.keywords.begin([image_id], remove=[words], by=by)
        done = services.keywords.go_on(act.id)
        if done.full:
            raise UsageError("this image has as many keywords as an image can have; remove some first")  # noqa: TRY301
    except NotFoundError:
        raise
    except UsageError as error:
        return show_image(request, services, image_id, keyword_refusal=error)
    return RedirectResponse(f"/images/{image_id}#keywords", status_code=303)


def _to(act: ActView, back: str = "") -> RedirectResponse:
    from urllib.parse import urlencode  # noqa: PLC0415

    search = _search_in(back)
    return RedirectResponse(
        f"/keywords/acts/{act.id}" + (f"?{urlencode({'back': search})}" if search else ""), status_code=303
    )


def _search_in(back: str) -> str:
    """Return the address of a search of this server; empty: it is another address."""
    return back if back.startswith("/?") and back.isprintable() else ""


def _screen(
    request: Request,
    services: Services,
    *,
    beginning: str = "",
    before: int | None = None,
    refusal: UsageError | None = None,
) -> HTMLResponse:
    return templates_of(request).show(
        request,
        "keywords.html",
        status=200 if refusal is None else 422,
        counts=services.keywords.list(beginning, limit=WORDS_PER_SCREEN),
        acts=services.keywords.history(limit=ACTS_PER_SCREEN, before=before),
        beginning=beginning,
        problem=None if refusal is None else problem_of(refusal),
    )

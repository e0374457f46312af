"""The pages on which people review what the steps of a data set dropped and added."""

from typing import Annotated, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Form, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, Field

from ramq.web.deps import MAX_ID, MAX_TEXT, ServicesDep, caller_of, templates_of
from ramq.web.problems import problem_of
from ramq.wiring import Services
from storage.datasets.review_views import MOST_AT_ONCE, Said, What
from storage.errors import NotFoundError, UsageError

TAGS_SHOWN = 200
PER_PAGE = 24
NEXT = "next"
"""Instead of a tag: the one of which most waits."""

NO_NUL = r"^[^\x00]*$"
Named = Annotated[str, Path(min_length=1, max_length=100, pattern=NO_NUL)]
Id = Annotated[int, Field(ge=1, le=MAX_ID)]


class Answers(BaseModel):
    """The form of an answer: about the pictures that are selected, or about ``one``. ``nothing`` takes them back."""

    tag: str = Field(max_length=MAX_TEXT, pattern=NO_NUL)
    what: What = "dropped"
    cursor: str = Field("", max_length=1_000, pattern=NO_NUL)
    say: Literal["right", "wrong", "nothing", ""] = ""
    one: Annotated[str, Field(pattern=r"^((right|wrong)-[1-9][0-9]{0,17})?$")] = ""
    image: list[Id] = Field(default_factory=list, max_length=MOST_AT_ONCE)


router = APIRouter(include_in_schema=False, prefix="/datasets/{name}/review")


@router.get("")
def show_review(  # noqa: PLR0913, PLR0917  (the parameters of the query string)
    request: Request,
    services: ServicesDep,
    name: Named,
    tag: Annotated[str, Query(max_length=MAX_TEXT, pattern=NO_NUL)] = "",
    what: What = "dropped",
    cursor: Annotated[str, Query(max_length=1_000, pattern=NO_NUL)] = "",
    every: Literal["yes", ""] = "",
) -> Response:
    """Show what waits of each tag, or the decisions about one tag as crops beside its typical ones."""
    if tag and tag != NEXT:
        return _decisions(request, services, name, Answers(tag=tag, what=what, cursor=cursor))
    review = services.reviews.progress(name)
    if tag == NEXT and (following := [one for one in review.tags if getattr(one, what).waiting]):
        best = max(following, key=lambda one: getattr(one, what).waiting)
        return RedirectResponse(_address(name, str(best.id), what), status_code=303)
    shown = review.tags if every else review.tags[:TAGS_SHOWN]
    return templates_of(request).show(request, "review.html", review=review, shown=shown, named=name)


@router.post("")
def answer(request: Request, services: ServicesDep, name: Named, said: Annotated[Answers, Form()]) -> Response:
    """Store answers, or take them back, and show what waits then."""
    say, ids = said.say, said.image
    if said.one:
        say, _, image_id = said.one.partition("-")  # type: ignore[assignment]  # its pattern says so
        ids = [int(image_id)]
    if not say:
        refusal = UsageError("nothing was answered: press one of the buttons under a picture")
        return _decisions(request, services, name, said, refusal=refusal)
    is_right = {"right": True, "wrong": False}.get(say)
    try:
        done = services.reviews.say(name, said.tag, ids, is_right=is_right, by=caller_of(request))
    except NotFoundError:
        raise
    except UsageError as error:
        return _decisions(request, services, name, said, refusal=error)
    if done.others and say != "nothing":
        return _decisions(request, services, name, said, done=done)
    # After an answer is taken back, it is shown again: the list begins anew.
    cursor = "" if say == "nothing" else said.cursor
    return RedirectResponse(_address(name, said.tag, said.what, cursor), status_code=303)


def _decisions(
    request: Request,
    services: Services,
    name: str,
    asked: Answers,
    *,
    refusal: UsageError | None = None,
    done: Said | None = None,
) -> HTMLResponse:
    version, tally = services.reviews.tag(name, asked.tag)
    page = services.reviews.waiting(name, asked.tag, asked.what, limit=PER_PAGE, cursor=asked.cursor or None)
    return templates_of(request).show(
        request,
        "review_tag.html",
        status=422 if refusal else 409 if done else 200,
        named=name,
        data_set=version.name,
        tag=tally,
        what=asked.what,
        tally=getattr(tally, asked.what),
        page=page,
        cursor=asked.cursor,
        typical=services.reviews.typical(name, asked.tag),
        last=services.reviews.last(name, caller_of(request)),
        others=done.others if done else [],
        problem=None if refusal is None else problem_of(refusal),
        here=lambda **changes: _address(name, str(tally.id), **{"what": asked.what, **changes}),
    )


def _address(name: str, tag: str, what: What, cursor: str = "") -> str:
    others = {"cursor": cursor} if cursor else {}
    return f"/datasets/{quote(name)}/review?{urlencode({'tag': tag, 'what': what, **others})}"

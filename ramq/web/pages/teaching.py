"""The page on which people teach a tag: choose pictures, see what it would do, and give it to the archive."""

from dataclasses import dataclass, field
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from ramq.schemas.problem import Problem
from ramq.services.teach_views import Suggestions, TeachReport
from ramq.services.teaching import LEAST, PRECISION
from ramq.web.deps import MAX_ID, MAX_TEXT, ServicesDep, caller_of, teaching_turns_of, templates_of
from ramq.web.problems import CODES, make_problem, problem_of
from ramq.web.turns import BusyError
from ramq.wiring import Services
from storage.errors import NotFoundError, UsageError
from storage.search.views import Hit, SearchQuery

SUGGESTED = 12
FOUND = 24
MOST_NAMED = 300
"""Pictures in an address. People who have more of them use the command line."""
MOST_JOBS = 100
SHOWN_KNOWN = 50
"""Pictures of each kind that people named before."""
LOOKED_AT = 20_000
"""Images among which those to label next are looked for: fewer than by the command, since people wait for the page."""
PRECISIONS = (0.7, 0.8, 0.9, 0.95, 0.99)

Id = Annotated[int, Field(ge=1, le=MAX_ID)]


class Lesson(BaseModel):
    """What is taught: it is all in the address, so that nothing is stored before it is applied.

    ``whole``: with what is computed from it, which may take a while. Without it the page is there at once, and asks.
    """

    tag: str = Field("", max_length=100)
    yes: list[Id] = Field(default_factory=list, max_length=MOST_NAMED)
    no: list[Id] = Field(default_factory=list, max_length=MOST_NAMED)
    drop: list[Id] = Field(default_factory=list, max_length=MOST_NAMED)
    precision: float = Field(PRECISION, ge=0.5, le=0.99)
    q: str = Field("", max_length=MAX_TEXT)
    job: list[Id] = Field(default_factory=list, max_length=MOST_JOBS)
    whole: Literal["yes", ""] = ""

    def tidied(self) -> "Lesson":
        """Return it with each picture once: what was said last counts."""
        yes, no = dict.fromkeys(self.yes), dict.fromkeys(self.no)
        return self.model_copy(
            update={
                "tag": " ".join(self.tag.replace("\0", " ").split()),
                "q": self.q.replace("\0", " "),
                "yes": [one for one in yes if one not in no and one not in self.drop],
                "no": [one for one in no if one not in self.drop],
                "drop": [],
            }
        )


@dataclass
class Learnt:
    """What the page shows of a lesson.

    Attributes:
        notes: what search made of the words for pictures.
        warnings: taught tags that would be lost.
        known: pictures that people named before, of this kind and not.
        problem: why there is no report, or nothing to label next.
        is_computing: whether these come later.
    """

    report: TeachReport | None = None
    suggestions: Suggestions | None = None
    found: list[Hit] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    known: tuple[list[int], list[int]] = ([], [])
    problem: Problem | None = None
    is_computing: bool = False


router = APIRouter(include_in_schema=False, prefix="/teach")


@router.get("")
def show_teaching(request: Request, services: ServicesDep, asked: Annotated[Lesson, Query()]) -> HTMLResponse:
    """Show the lesson in the address: its pictures, what they teach, and which to label next."""
    lesson = asked.tidied()
    return _screen(request, services, lesson, _learnt(request, services, lesson))


@router.post("")
def apply_lesson(request: Request, services: ServicesDep, asked: Annotated[Lesson, Form()]) -> Response:
    """Give the tag to all recorded images, and show the jobs that do it."""
    lesson = asked.tidied()
    try:
        with teaching_turns_of(request).turn():
            done = services.teaching.apply(
                lesson.tag, lesson.yes, lesson.no, precision=lesson.precision, by=caller_of(request)
            )
    except NotFoundError:
        raise
    except UsageError as error:
        learnt = _learnt(request, services, lesson)
        learnt.problem = problem_of(error)
        return _screen(request, services, lesson, learnt)
    jobs = urlencode([("job", job.id) for job in done.jobs[:MOST_JOBS]])
    return RedirectResponse(f"/teach?{jobs}" if jobs else "/teach", status_code=303)


def _learnt(request: Request, services: Services, lesson: Lesson) -> Learnt:
    if not lesson.tag:
        return Learnt()
    learnt = Learnt()
    try:
        yes, no = services.teaching.said(lesson.tag)
        named = {*lesson.yes, *lesson.no}
        learnt.known = ([one for one in yes if one not in named], [one for one in no if one not in named])
        is_known = bool(lesson.yes or learnt.known[0])
        if is_known and not lesson.whole:
            learnt.is_computing = True
            return learnt
        if is_known:
            with teaching_turns_of(request).turn():
                learnt.report, learnt.suggestions = services.teaching.study(
                    lesson.tag, SUGGESTED, yes=lesson.yes, no=lesson.no, precision=lesson.precision, looked_at=LOOKED_AT
                )
            learnt.warnings = services.teaching.left_behind([lesson.tag])
        if lesson.q or not is_known:  # at first, what search finds by the name itself
            _find(services, lesson, learnt)
    except NotFoundError:
        raise
    except UsageError as error:
        learnt.problem = problem_of(error)
    except BusyError as error:
        learnt.problem = make_problem(error.status_code, CODES[error.status_code], error.detail)
    return learnt


def _find(services: Services, lesson: Lesson, learnt: Learnt) -> None:
    named = {*lesson.yes, *lesson.no, *learnt.known[0], *learnt.known[1]}
    query = services.search.read(SearchQuery(limit=min(FOUND + len(named), 500)), lesson.q or lesson.tag)
    learnt.found = [hit for hit in services.search.page(query).items if hit.image_id not in named][:FOUND]
    learnt.notes = [note.line for note in query.notes] if lesson.q else []


def _screen(request: Request, services: Services, lesson: Lesson, learnt: Learnt) -> HTMLResponse:
    jobs = services.jobs.get_all(lesson.job)

    def address(**changes: object) -> str:
        state = lesson.model_dump(exclude={"job", "drop", "whole"}) | changes
        kept = {name: value for name, value in state.items() if value not in ("", [], PRECISION)}
        return f"/teach?{urlencode(kept, doseq=True)}"

    return templates_of(request).show(
        request,
        "teach.html",
        status=learnt.problem.status if learnt.problem else 200,
        lesson=lesson,
        learnt=learnt,
        least=LEAST,
        most_known=SHOWN_KNOWN,
        precisions=PRECISIONS,
        default_precision=PRECISION,
        address=address,
        taught=[] if lesson.tag else services.teaching.taught(),
        jobs=jobs,
        is_live=any(not job.is_over for job in jobs),
    )

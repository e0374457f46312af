"""The page of one image."""

import logging
from typing import Annotated, Literal, NamedTuple

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, Field

from ramq.web.deps import MAX_ID, MAX_TEXT, Id, ServicesDep, caller_of, templates_of
from ramq.web.in_file import in_file
from ramq.web.overlay import polygon_of, spots
from ramq.web.problems import problem_of
from ramq.web.regions_overlay import FEW, box_in_percent, box_of, marks
from ramq.wiring import Services
from storage.errors import NotFoundError, RamqError, UsageError
from storage.results.views import ImageView
from storage.search.language import AllOf, FieldTerm, Parsed, RegionTerm, format  # noqa: A004  (the inverse of its parse)
from storage.search.views import Hit, SearchQuery
from storage.tables import RECOGNITION

NEIGHBOURS = 12

log = logging.getLogger(__name__)


class SaidOfLine(BaseModel):
    """The form of a line. To say ``nothing`` takes a correction back. ``line`` is where the list is shown then."""

    say: Literal["text", "none", "nothing"]
    polygon: str = Field("", max_length=MAX_TEXT)
    text: str = Field("", max_length=MAX_TEXT)
    correction: int = Field(0, ge=0, le=MAX_ID)
    line: int = Field(0, ge=0, le=MAX_ID)


class SaidOfRegion(BaseModel):
    """The forms of regions: to ``draw`` one, of which the sides are in percent, or to ``reject`` the one at a box.

    To say ``nothing`` takes a correction back. ``number`` is where the list is shown then.
    """

    say: Literal["draw", "reject", "nothing"]
    tag: str = Field("", max_length=MAX_TEXT)
    box: str = Field("", max_length=MAX_TEXT)
    left: str = Field("", max_length=MAX_TEXT)
    top: str = Field("", max_length=MAX_TEXT)
    right: str = Field("", max_length=MAX_TEXT)
    bottom: str = Field("", max_length=MAX_TEXT)
    correction: int = Field(0, ge=0, le=MAX_ID)
    number: int = Field(0, ge=0, le=MAX_ID)


class Found(NamedTuple):
    """What a search found in an image: the characters of lines, by their number, and the numbers of regions."""

    lines: dict[int, list[tuple[int, int]]]
    regions: set[int]


router = APIRouter(include_in_schema=False, prefix="/images")


@router.get("/{image_id}")
def show_image(request: Request, services: ServicesDep, image_id: Id, q: str = "", space: str = "") -> HTMLResponse:
    """Show the image with all its tags, scores and thresholds, its text and regions, similar images and its history.

    ``q`` is the search that found it. Lines of text and regions that match it are marked. ``space`` is what similar
    images are found by.
    """
    return show_screen(request, services, image_id, q=q, space=space)


@router.post("/{image_id}/tags")
def correct_tag(
    request: Request,
    services: ServicesDep,
    image_id: Id,
    name: Annotated[str, Form(max_length=MAX_TEXT)],
    say: Annotated[Literal["present", "absent", "nothing"], Form()],
) -> Response:
    """Store a correction of a tag, or remove it. An unknown tag leads to an error on the same page."""
    try:
        services.corrections.tag(
            [image_id],
            add=[name] if say == "present" else [],
            remove=[name] if say == "absent" else [],
            reset=[name] if say == "nothing" else [],
            by=caller_of(request),
        )
    except NotFoundError:
        raise
    except UsageError as error:
        return show_screen(request, services, image_id, refusal=error)
    return RedirectResponse(f"/images/{image_id}", status_code=303)


@router.post("/{image_id}/text")
def correct_line(
    request: Request,
    services: ServicesDep,
    image_id: Id,
    said: Annotated[SaidOfLine, Form()],
) -> Response:
    """Store a correction of a line, or remove it. A text that is not valid leads to an error on the same page."""
    try:
        if said.say == "nothing":
            services.readings.withdraw(image_id, said.correction)
        else:
            text = said.text if said.say == "text" else None
            services.readings.correct(image_id, polygon_of(said.polygon), text, caller_of(request))
    except NotFoundError:
        raise
    except UsageError as error:
        return show_screen(request, services, image_id, line_refusal=error)
    # People who correct a page go on with the next line.
    return RedirectResponse(f"/images/{image_id}#{f'line-{said.line}' if said.line else 'text'}", status_code=303)


@router.post("/{image_id}/regions")
def correct_region(
    request: Request,
    services: ServicesDep,
    image_id: Id,
    said: Annotated[SaidOfRegion, Form()],
) -> Response:
    """Draw or reject a region, or take a correction back. A form that is not valid leads to an error on the page."""
    by = caller_of(request)
    place = f"region-{said.number}" if said.number else "regions"
    try:
        if said.say == "nothing":
            services.regions.withdraw(image_id, said.correction)
        elif said.say == "reject":
            services.regions.correct(image_id, said.tag, box_of(said.box), is_there=False, said_by=by)
        else:
            box = box_in_percent(said.left, said.top, said.right, said.bottom)
            correction = services.regions.correct(image_id, said.tag, box, is_there=True, said_by=by)
            drawn = (one.number for one in services.regions.get(image_id).regions if one.correction_id == correction)
            place = f"mark-{next(drawn, 0)}"
    except NotFoundError:
        raise
    except UsageError as error:
        return show_screen(
            request, services, image_id, region_refusal=error, drawn=said if said.say == "draw" else None
        )
    return RedirectResponse(f"/images/{image_id}#{place}", status_code=303)


def show_screen(  # noqa: PLR0913  (an error for each form)
    request: Request,
    services: Services,
    image_id: int,
    *,
    refusal: UsageError | None = None,
    line_refusal: UsageError | None = None,
    region_refusal: UsageError | None = None,
    keyword_refusal: UsageError | None = None,
    drawn: SaidOfRegion | None = None,
    q: str = "",
    space: str = "",
) -> HTMLResponse:
    """Return the page of an image, with what was refused."""
    image = services.images.get(image_id)
    reading = services.readings.find(image_id)
    regions = services.regions.find(image_id)
    slots, placed = marks([] if regions is None else regions.regions)
    found = _found(services, q, image_id) if q else Found({}, set())
    is_refused = any((refusal, line_refusal, region_refusal, keyword_refusal))
    has = {tag.name.lower() for tag in image.tags if tag.is_assigned}
    named = services.keywords.tags_named([one.word for one in image.keywords])
    return templates_of(request).show(
        request,
        "image.html",
        status=422 if is_refused else 200,
        image=image,
        assigned=[tag for tag in image.tags if tag.is_assigned],
        others=[tag for tag in image.tags if not tag.is_assigned],
        names={tag.name.lower() for tag in image.tags},
        said={correction.name: correction for correction in image.corrections},
        # An image without a record has no vector to compare.
        neighbours=_neighbours(services, image_id, space) if image.generation_id else None,
        spaces=services.search.spaces(),
        space=space,
        q=q,
        reading=reading,
        line_corrections=[] if reading is None else services.readings.corrections(image_id),
        spots=[] if reading is None else spots(reading.lines),
        found=found.lines,
        found_regions=found.regions,
        regions=regions,
        region_corrections=[] if regions is None else services.regions.corrections(image_id),
        with_vectors=services.regions.with_vectors(regions),
        slots=slots,
        marks=placed,
        are_few=len(placed) <= FEW,
        counted=_counted,
        drawn=drawn,
        is_shown=image.missing_since is None
        and (image.generation_id is not None or reading is not None or regions is not None),
        in_file=[] if image.metadata is None else in_file(image.metadata),
        reason=_why_not_shown(image),
        all_pages=format(Parsed(where=AllOf((FieldTerm("archive", image.archive), FieldTerm("file", image.file_key))))),
        problem=None if refusal is None else problem_of(refusal),
        line_problem=None if line_refusal is None else problem_of(line_refusal),
        region_problem=None if region_refusal is None else problem_of(region_refusal),
        keyword_problem=None if keyword_refusal is None else problem_of(keyword_refusal),
        tags_named=[one for one in named if one.tag.lower() not in has],
    )


def _counted(tag: str) -> str:
    """Return the search for the images with a region of a tag."""
    return format(Parsed(where=RegionTerm("count", tag, ">=", 1)))


def _why_not_shown(image: ImageView) -> str:
    """Return why there is no picture: its file is missing, or, from its history, why it was not recognised."""
    if image.missing_since is not None:
        return "its file is missing. What is known of it is kept."
    last = next((event for event in image.history if event.stage == RECOGNITION), None)
    if last is None:
        return "no job has processed it yet."
    return f"{last.error_class}: {last.detail or ''}".strip()


def _found(services: Services, q: str, image_id: int) -> Found:
    """Return what a search found in an image. If the search fails, that is nothing."""
    try:
        query = services.search.read(SearchQuery(), q)
        lines = {match.line.number: match.spans for match in services.search.lines(query, image_id)}
        return Found(lines, {region.number for region in services.search.regions(query, image_id)})
    except RamqError as error:
        log.info("no_matches", extra={"image_id": image_id, "reason": str(error)})
        return Found({}, set())


def _neighbours(services: Services, image_id: int, space: str) -> list[Hit] | str:
    """Return the images most similar to this one, or why there are none. The page can be shown without them."""
    try:
        page = services.search.page(SearchQuery(like=image_id, space=space or None, limit=NEIGHBOURS + 1))
    except RamqError as error:
        log.info("no_neighbours", extra={"image_id": image_id, "reason": str(error)})
        is_told = space and isinstance(error, UsageError)
        return str(error) if is_told else "Similar images are unavailable right now."
    return [hit for hit in page.items if hit.image_id != image_id][:NEIGHBOURS]


@router.post("/{image_id}/delete")
def delete_image(request: Request, services: ServicesDep, image_id: Id) -> HTMLResponse:
    """Erase the results of the image, and show what was erased."""
    image = services.images.get(image_id)
    report = services.erasures.delete([image_id], by=caller_of(request))
    return templates_of(request).show(request, "deleted.html", image=image, report=report)

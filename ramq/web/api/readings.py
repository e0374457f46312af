"""The text in images under ``/v1/images/{image_id}/text``."""

from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response, status

from ramq.schemas.readings import LineCorrection, LineCorrectionOut, LineOut, ReadingOut
from ramq.web.api.generations import MAX_GENERATION
from ramq.web.deps import MAYBE_BLANK, Id, ServicesDep, caller_of
from ramq.wiring import Services

Format = Literal["json", "txt", "hocr", "alto"]

router = APIRouter(prefix="/v1/images/{image_id}/text", tags=["text"])


@router.get(
    "",
    response_model=ReadingOut,
    responses={200: {"content": {"text/plain": {}, "text/vnd.hocr+html": {}, "application/xml": {}}}},
)
def get_text(
    services: ServicesDep,
    image_id: Id,
    format: Annotated[  # noqa: A002  (the parameter's public name)
        Format, Query(description="`txt`: one line of text per line; `hocr` and `alto`: for libraries"), MAYBE_BLANK
    ] = "json",
    generation: Annotated[
        int | None,
        Query(ge=1, le=MAX_GENERATION, description="the generation that read it; default: the one in use"),
        MAYBE_BLANK,
    ] = None,
) -> ReadingOut | Response:
    """Return the text in one image: lines with their places, corrected where people said so."""
    if format == "json":
        return _reading(services, image_id, generation)
    file = services.readings.file(services.images.get(image_id), format, generation)
    headers = {
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(file.name, safe='')}",
        # The text is anybody's. Whatever it is, the browser must not treat it as a part of this site.
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    return Response(file.content, media_type=file.media_type, headers=headers)


@router.post("/corrections", status_code=status.HTTP_201_CREATED)
def correct_text(request: Request, services: ServicesDep, image_id: Id, body: LineCorrection) -> ReadingOut:
    """Correct the text at a place. It replaces the lines whose middle is there, or is a new line if there is none.

    The correction overrides every generation, and later jobs too.
    """
    polygon = tuple((x, y) for x, y in body.polygon)
    services.readings.correct(image_id, polygon, body.text, caller_of(request))
    return _reading(services, image_id)


@router.delete("/corrections/{correction_id}")
def reset_text(services: ServicesDep, image_id: Id, correction_id: Id) -> ReadingOut:
    """Remove a correction, so that the text at its place is again as it was read."""
    services.readings.withdraw(image_id, correction_id)
    return _reading(services, image_id)


def _reading(services: Services, image_id: int, generation: int | None = None) -> ReadingOut:
    view = services.readings.get(image_id, generation)
    said = services.readings.corrections(image_id)
    return ReadingOut(
        image_id=view.image_id,
        generation_id=view.generation_id,
        model=view.model,
        lines=[LineOut.model_validate(line) for line in view.lines],
        is_cut=view.is_cut,
        read_at=view.read_at,
        corrections=[LineCorrectionOut.model_validate(one) for one in said],
    )

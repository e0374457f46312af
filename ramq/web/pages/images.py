"""The screen of one image."""

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from ramq.kit.errors import RamqError
from ramq.web.deps import Id, Reach, screens_of
from ramq.wiring import Services
from storage.views import Hit, SearchQuery

NEIGHBOURS = 12

router = APIRouter(include_in_schema=False, prefix="/images")


@router.get("/{image_id}")
def show_image(request: Request, services: Reach, image_id: Id) -> HTMLResponse:
    """Show the picture with all its tags, scores and thresholds, its neighbours and its history."""
    image = services.image(image_id)
    tags = sorted(image.tags, key=lambda tag: tag.score, reverse=True)
    return screens_of(request).show(
        request,
        "image.html",
        image=image,
        assigned=[tag for tag in tags if tag.score >= tag.threshold],
        others=[tag for tag in tags if tag.score < tag.threshold],
        neighbours=_neighbours(services, image_id),
    )


def _neighbours(services: Services, image_id: int) -> list[Hit] | None:
    """The images most like this one, or None when that cannot be told: the rest of the screen does not need it."""
    try:
        page = services.search(SearchQuery(like=image_id, limit=NEIGHBOURS + 1))
    except RamqError as error:
        structlog.get_logger().info("no_neighbours", image_id=image_id, reason=str(error))
        return None
    return [hit for hit in page.items if hit.image_id != image_id][:NEIGHBOURS]


@router.post("/{image_id}/delete")
def delete_image(request: Request, services: Reach, image_id: Id) -> HTMLResponse:
    """Erase the results of the image and tell what was erased."""
    image = services.image(image_id)
    report = services.delete([image_id])
    return screens_of(request).show(request, "deleted.html", image=image, report=report)

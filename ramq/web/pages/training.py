"""The page of trainings: progress, losses, scores."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from ram_core.runs import RUNNING
from ramq.web.deps import ServicesDep, templates_of

router = APIRouter(include_in_schema=False, prefix="/training")


@router.get("")
def show_trainings(request: Request, services: ServicesDep) -> HTMLResponse:
    """Show the trainings, the last one first. It reads their folders, so it works while they run."""
    runs = services.trainings.list()
    is_live = any(run.state == RUNNING for run in runs)
    return templates_of(request).show(request, "training.html", runs=runs, is_live=is_live)

"""What waits, for autoscalers and people, and estimates of jobs."""

from typing import Annotated

from fastapi import APIRouter, Query

from ramq.schemas.backlog import BacklogOut
from ramq.web.deps import ServicesDep

router = APIRouter(prefix="/v1", tags=["workers"])

MOST_KINDS = 20


@router.get("/backlog")
def get_backlog(
    services: ServicesDep,
    kind: Annotated[list[str] | None, Query(max_length=MOST_KINDS, description="only these; default: all")] = None,
    device: Annotated[str, Query(max_length=20, description="the device that `seconds` is for")] = "cpu",
) -> BacklogOut:
    """Return how much work waits for each kind of worker, in seconds of work of one worker.

    Paused jobs do not count. Divide `seconds` by how long the work may take to get the number of workers.
    """
    return BacklogOut.model_validate(services.jobs.backlog(kinds=kind or (), device=device))

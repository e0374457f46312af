"""What waits, for autoscalers and people, and estimates of jobs."""

from typing import Annotated

from fastapi import APIRouter, Query

from ramq.schemas.backlog import BacklogOut
from ramq.schemas.estimates import JobEstimateOut, NewEstimate
from ramq.services.estimate_views import Prices
from ramq.services.estimates import Amounts
from ramq.services.job_wishes import JobWishes
from ramq.web.deps import ServicesDep, absolute_source, reading

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


@router.post("/estimates")
def estimate_job(services: ServicesDep, new: NewEstimate) -> JobEstimateOut:
    """Return what a job would take: images, hours, requests, bytes, cost. Nothing is started or written.

    The archive is listed as far as `list_keys` says. Rates are those that workers here measured. Without any, `hours`
    is null: the command `ramq estimate` can try the model on a sample. With `pages`, TIFF and PDF files count as one
    image each and `high` of the images is null: their pages are counted when a job opens them.
    """
    wishes = JobWishes(new.model, new.caption, new.priority, None, new.stages, new.selection, new.pages)
    prices = Prices(new.gpu_hour_price, new.cpu_hour_price, new.request_price)
    amounts = Amounts(new.images, new.list_keys, new.sample, new.workers, new.device, prices)
    with reading(new.source):
        found = services.jobs.estimate(absolute_source(new.source), wishes, amounts)
    return JobEstimateOut.model_validate(found)

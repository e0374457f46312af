"""Jobs under ``/v1``: start, watch and control them, and read their failures."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response, status
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from ramq.schemas.jobs import FailureOut, JobOut, NewJob, ReportOut
from ramq.schemas.views import PageOut, WorkerOut
from ramq.web.callers import caller_in
from ramq.web.deps import MAYBE_BLANK, Cursor, Id, Limit, MaybeId, ServicesDep, absolute_source, caller_of, reading
from ramq.web.problems import problem_of
from storage.errors import RamqError, TransientError
from storage.ledger.requests import RequestKey
from storage.ledger.views import JobView

EVENT_SECONDS = 1.0
"""The interval at which the event stream of a job reads the job."""
KEEP_ALIVE_SECONDS = 15.0
"""After this time without a change, a comment is sent, so that proxies keep the stream open."""
LINES_AT_ONCE = 1_000
"""Lines of a report in one chunk of a response."""

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
workers_router = APIRouter(prefix="/v1/workers", tags=["jobs"])

IdempotencyKey = Annotated[
    str | None, Header(min_length=1, max_length=255, description="a unique name for this request, of your choice")
]
ErrorClass = Annotated[
    str | None, Query(alias="class", max_length=200, pattern=r"^[^\x00]*$", description="an error class")
]


@router.post("", status_code=status.HTTP_201_CREATED)
def create_job(
    http: Request, services: ServicesDep, new: NewJob, response: Response, idempotency_key: IdempotencyKey = None
) -> JobOut:
    """Start a job: register the archive if it is new, list it, and recognise new and changed images.

    A request with the header `Idempotency-Key` can be sent again for a day. The response is then the job that it
    started the first time.
    """
    request = None
    if idempotency_key is not None:
        token = caller_in(http).token
        request = RequestKey.of(token.name if token else "", idempotency_key, new.model_dump_json())
    with reading(new.source):
        job = services.jobs.create(
            absolute_source(new.source),
            model=new.model,
            caption=new.caption,
            priority=new.priority,
            stages=new.stages,
            selection=new.selection,
            pages=new.pages,
            request=request,
            by=caller_of(http),
        )
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return JobOut.model_validate(job)


@router.get("")
def list_jobs(
    services: ServicesDep,
    limit: Limit = 50,
    cursor: MaybeId = None,
    watch: MaybeId = None,
    fold: Annotated[  # noqa: FBT002  (a parameter of the query string)
        bool,
        Query(description="whether of the jobs of a watch that ended well only the newest one is listed"),
        MAYBE_BLANK,
    ] = False,
) -> PageOut[JobOut]:
    """List the jobs, newest first: all, or those that a watch began."""
    return PageOut[JobOut].model_validate(services.jobs.list(limit=limit, before=cursor, watch=watch, fold=fold))


@router.get("/{job_id}")
def get_job(services: ServicesDep, job_id: Id) -> JobOut:
    """Return one job with its counters, rates and bottleneck."""
    return JobOut.model_validate(services.jobs.get(job_id))


@router.post("/{job_id}/pause")
def pause_job(services: ServicesDep, job_id: Id) -> JobOut:
    """Pause the job within one batch. Finished work is kept."""
    return JobOut.model_validate(services.jobs.pause(job_id))


@router.post("/{job_id}/resume")
def resume_job(services: ServicesDep, job_id: Id) -> JobOut:
    """Resume a paused or failed job."""
    return JobOut.model_validate(services.jobs.resume(job_id))


@router.post("/{job_id}/cancel")
def cancel_job(services: ServicesDep, job_id: Id) -> JobOut:
    """Cancel the job within one batch. Recorded results stay."""
    return JobOut.model_validate(services.jobs.cancel(job_id))


@router.post("/{job_id}/retry")
def retry_job(services: ServicesDep, job_id: Id, error_class: ErrorClass = None) -> JobOut:
    """Retry the failed images: all of them, or those of one class."""
    return JobOut.model_validate(services.jobs.retry(job_id, error_class=error_class or None))


@router.get("/{job_id}/failures")
def list_failures(
    services: ServicesDep, job_id: Id, error_class: ErrorClass = None, limit: Limit = 100, cursor: Cursor = None
) -> PageOut[FailureOut]:
    """List the failed images of the job, with class, detail and attempts."""
    page = services.jobs.failures(job_id, error_class=error_class or None, limit=limit, cursor=cursor)
    return PageOut[FailureOut].model_validate(page)


@router.get("/{job_id}/report")
def get_report(services: ServicesDep, job_id: Id) -> ReportOut:
    """Return the counts of all outcomes, and a SHA-256 of the report's lines."""
    return ReportOut.model_validate(services.jobs.report(job_id))


@router.get(
    "/{job_id}/report/lines",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
)
def get_report_lines(services: ServicesDep, job_id: Id) -> StreamingResponse:
    """Return one line of JSON for each key, sorted: `key`, `outcome`, `class`. The report has their SHA-256.

    Ignored keys also have a `reason`.
    """
    services.jobs.get(job_id)
    return StreamingResponse(_gathered(services.jobs.report_lines(job_id)), media_type="application/x-ndjson")


def _gathered(lines: Iterator[bytes]) -> Iterator[bytes]:
    while chunk := b"".join(islice(lines, LINES_AT_ONCE)):
        yield chunk


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def job_events(request: Request, services: ServicesDep, job_id: Id) -> StreamingResponse:
    """Stream server-sent events: a `job` event with the job's JSON at once and at every change, until it is over."""
    job = await run_in_threadpool(services.jobs.get, job_id)
    return StreamingResponse(
        _events(request, services, job), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _events(request: Request, services: ServicesDep, job: JobView) -> AsyncIterator[str]:
    yield f"retry: 2000\n\n{_event('job', JobOut.model_validate(job).model_dump_json())}"
    quiet_seconds = 0.0
    while not job.is_over and not request.app.state.is_stopping():
        await asyncio.sleep(EVENT_SECONDS)
        quiet_seconds += EVENT_SECONDS
        try:
            news = await run_in_threadpool(services.jobs.get, job.id)
        except TransientError as error:
            # The stream survives a restart of the database. Tell the client why no events arrive.
            yield _event("problem", problem_of(error).model_dump_json(exclude_none=True))
            continue
        except RamqError as error:
            yield _event("problem", problem_of(error).model_dump_json(exclude_none=True))
            return
        if news != job:
            yield _event("job", JobOut.model_validate(news).model_dump_json())
        elif quiet_seconds >= KEEP_ALIVE_SECONDS:
            yield ": still here\n\n"
        else:
            continue
        job, quiet_seconds = news, 0.0


def _event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"


@workers_router.get("")
def list_workers(services: ServicesDep) -> PageOut[WorkerOut]:
    """List the workers that are or were recently alive, with device and age of the heartbeat."""
    return PageOut[WorkerOut](items=[WorkerOut.model_validate(worker) for worker in services.jobs.workers()])

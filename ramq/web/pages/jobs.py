"""The pages of jobs: the list of jobs, one job with its live counters, and its failures."""

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from ramq.schemas.problem import Problem
from ramq.services.estimate_views import EstimateView
from ramq.services.estimate_words import lines_of
from ramq.services.estimates import Amounts
from ramq.services.job_wishes import JobWishes
from ramq.web.api.jobs import ErrorClass
from ramq.web.deps import Cursor, Id, MaybeId, ServicesDep, absolute_source, caller_of, templates_of
from ramq.web.problems import make_problem, problem_of
from ramq.web.render import duration, size
from ramq.wiring import Services
from storage.errors import NotFoundError, UsageError
from storage.ledger.views import JobView, Priority
from storage.objects.base import CredentialsError
from storage.objects.ignoring import Selection

JOBS_PER_SCREEN = 20
FAILURES_PER_SCREEN = 100
MOST_LISTED = 10_000
"""Keys that an estimate on the page lists: a person waits for it."""
MOST_PATTERNS = 100_000
"""Characters of the patterns in the form."""

router = APIRouter(include_in_schema=False, prefix="/jobs")


@router.get("")
def show_jobs(
    request: Request, services: ServicesDep, cursor: MaybeId = None, source: str = "", watch: MaybeId = None
) -> HTMLResponse:
    """Show the jobs, newest first, the workers, and the form for a new job. Or the jobs of one watch."""
    return _jobs(request, services, cursor=cursor, form={"source": source}, watch=watch)


@router.post("")
def create_job(  # noqa: PLR0913, PLR0917  (the fields of a form)
    request: Request,
    services: ServicesDep,
    source: Annotated[str, Form(max_length=4_096)] = "",
    model: Annotated[str, Form(max_length=80)] = "",
    caption: Annotated[Literal["yes", "no", ""], Form()] = "",
    priority: Annotated[Priority, Form()] = "normal",
    stages: Annotated[Literal["text", ""], Form()] = "",
    include: Annotated[str, Form(max_length=MOST_PATTERNS)] = "",
    exclude: Annotated[str, Form(max_length=MOST_PATTERNS)] = "",
    junk: Annotated[Literal["list", ""], Form()] = "",
    pages: Annotated[Literal["all", ""], Form()] = "",
    then: Annotated[Literal["estimate", ""], Form()] = "",
) -> Response:
    """Start a job and show it, or only say what it would take. Errors in the form are shown above it."""
    form = {"source": source, "model": model, "caption": caption, "priority": priority, "stages": stages}
    form |= {"include": include, "exclude": exclude, "junk": junk, "pages": pages}
    if not source.strip() or "\0" in source:
        problem = make_problem(422, "usage", "Enter an archive: s3://bucket/prefix, a folder, or a manifest.")
        return _jobs(request, services, form=form, problem=problem)
    wants_caption = {"yes": True, "no": False}.get(caption)
    selection = Selection(_lines(include), _lines(exclude), has_defaults=not junk)
    further = [stages] if stages else []
    try:
        if then == "estimate":
            wishes = JobWishes(
                model or None, wants_caption, priority, None, [stages] if stages else [], selection, bool(pages)
            )
            amounts = Amounts(most_keys=MOST_LISTED)
            view = services.jobs.estimate(absolute_source(source.strip()), wishes, amounts)
            return _jobs(request, services, form=form, estimate=view)
        job = services.jobs.create(
            absolute_source(source.strip()),
            model=model or None,
            caption=wants_caption,
            priority=priority,
            stages=further,
            selection=selection,
            pages=bool(pages),
            by=caller_of(request),
        )
    except NotFoundError as error:
        # The archive in the form is missing, not this page, so this is not a 404.
        return _jobs(request, services, form=form, problem=problem_of(UsageError(str(error))))
    except (UsageError, CredentialsError) as error:
        return _jobs(request, services, form=form, problem=problem_of(error))
    return RedirectResponse(f"/jobs/{job.id}", status_code=303)


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line for line in text.splitlines() if line.strip())


def _jobs(  # noqa: PLR0913  (what the page shows)
    request: Request,
    services: Services,
    *,
    cursor: int | None = None,
    form: dict[str, str],
    problem: Problem | None = None,
    watch: int | None = None,
    estimate: EstimateView | None = None,
) -> HTMLResponse:
    page = services.jobs.list(limit=JOBS_PER_SCREEN, before=cursor, watch=watch, fold=watch is None)
    return templates_of(request).show(
        request,
        "jobs.html",
        status=problem.status if problem else 200,
        jobs=page,
        workers=services.jobs.workers(),
        is_live=any(_is_live(job) for job in page.items),
        models=services.jobs.models(),
        settings=services.settings,
        form=dict.fromkeys(("model", "caption", "stages", "include", "exclude", "junk", "pages"), "")
        | {"priority": "normal"}
        | form,
        problem=problem,
        estimate=estimate,
        lines=lines_of(estimate, duration, size) if estimate else (),
        cursor=cursor,
        watch=watch,
    )


@router.get("/{job_id}")
def show_job(request: Request, services: ServicesDep, job_id: Id) -> HTMLResponse:
    """Show one job with its live counters, rates, bottleneck and failures."""
    return _job(request, services, services.jobs.get(job_id))


@router.post("/{job_id}/{action}")
def steer_job(
    request: Request,
    services: ServicesDep,
    job_id: Id,
    action: Literal["pause", "resume", "cancel", "retry"],
    error_class: Annotated[str | None, Form(alias="class", max_length=200)] = None,
) -> Response:
    """Pause, resume, cancel or retry the job, then show it."""
    jobs = services.jobs
    try:
        if action == "retry":
            jobs.retry(job_id, error_class=error_class or None)
        else:
            {"pause": jobs.pause, "resume": jobs.resume, "cancel": jobs.cancel}[action](job_id)
    except UsageError as error:
        # The state of the job changed between the page and the click. Show it as it is now.
        return _job(request, services, jobs.get(job_id), problem_of(error))
    return RedirectResponse(f"/jobs/{job_id}", status_code=303)


def _job(request: Request, services: Services, job: JobView, problem: Problem | None = None) -> HTMLResponse:
    return templates_of(request).show(
        request,
        "job.html",
        status=problem.status if problem else 200,
        job=job,
        followers=services.jobs.followers(job.id),
        is_live=_is_live(job),
        workers=[
            worker
            for worker in services.jobs.workers()
            if worker.job_id in {job.id, job.with_job} and job.stage in worker.runs and worker.is_alive
        ],
        problem=problem,
    )


@router.get("/{job_id}/failures")
def show_failures(
    request: Request, services: ServicesDep, job_id: Id, error_class: ErrorClass = None, cursor: Cursor = None
) -> HTMLResponse:
    """Show the failed images of a job with their reasons, and the button that retries them."""
    job = services.jobs.get(job_id)
    chosen = error_class or None
    failures = services.jobs.failures(job_id, error_class=chosen, limit=FAILURES_PER_SCREEN, cursor=cursor)
    return templates_of(request).show(request, "failures.html", job=job, failures=failures, chosen=chosen)


def _is_live(job: JobView) -> bool:
    """Return whether the job's numbers may still change. A paused job finishes its current batches first."""
    return not job.is_over

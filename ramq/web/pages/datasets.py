"""The pages of data sets: the list of them, and one with its versions and samples of its labels."""

from typing import Literal
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from ramq.schemas.problem import Problem
from ramq.web.api.datasets import Name
from ramq.web.deps import ServicesDep, templates_of
from ramq.web.problems import problem_of
from ramq.wiring import Services
from storage.datasets.versions import OPEN, VersionView
from storage.errors import NotFoundError, UsageError

SAMPLES = 12

router = APIRouter(include_in_schema=False, prefix="/datasets")


@router.get("")
def show_datasets(request: Request, services: ServicesDep) -> HTMLResponse:
    """Show the data sets, newest first, with their newest versions."""
    found = services.datasets.list()
    return templates_of(request).show(request, "datasets.html", sets=found, is_live=any(map(_is_live, found)))


@router.get("/{name}")
def show_dataset(request: Request, services: ServicesDep, name: Name) -> HTMLResponse:
    """Show a data set: what each step changed, how far the last one is, and pictures with their labels."""
    return _dataset(request, services, name)


@router.post("/{name}/{action}")
def steer_dataset(
    request: Request, services: ServicesDep, name: Name, action: Literal["pause", "resume", "cancel"]
) -> Response:
    """Pause, resume or cancel the step of the newest version, then show the data set."""
    try:
        services.datasets.steer(name, action)
    except NotFoundError:
        raise
    except UsageError as error:
        # The step ended between the page and the click. Show it as it is now.
        return _dataset(request, services, name, problem_of(error))
    return RedirectResponse(f"/datasets/{quote(name)}", status_code=303)


def _dataset(request: Request, services: Services, name: str, problem: Problem | None = None) -> HTMLResponse:
    versions = services.datasets.versions(name)
    done = next((version for version in reversed(versions) if version.state == "done"), None)
    return templates_of(request).show(
        request,
        "dataset.html",
        status=problem.status if problem else 200,
        name=versions[-1].name,
        versions=versions[::-1],
        by_number={version.number: version for version in versions},
        sampled=done,
        samples=[] if done is None else services.datasets.samples(done, SAMPLES),
        is_live=_is_live(versions[-1]),
        problem=problem,
    )


def _is_live(version: VersionView) -> bool:
    """Return whether the numbers of a version may still change."""
    return version.state in OPEN

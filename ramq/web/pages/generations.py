"""The page of generations: which one is in use, what each recorded, and how two of them differ."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ramq.web.api.generations import MAX_GENERATION, GenerationId
from ramq.web.deps import MAX_TEXT, ServicesDep, templates_of
from ramq.web.problems import make_problem
from ramq.wiring import Services
from storage.errors import ConflictError, RamqError, UsageError
from storage.results.generation_views import GenerationComparison

router = APIRouter(include_in_schema=False)

SHOWN_TAGS = 50

MaybeGeneration = Annotated[int | None, Query(ge=1, le=MAX_GENERATION)]


@router.get("/generations")
def show_generations(
    request: Request,
    services: ServicesDep,
    a: MaybeGeneration = None,
    b: MaybeGeneration = None,
    archive: Annotated[str | None, Query(max_length=MAX_TEXT)] = None,
) -> HTMLResponse:
    """Show the generations. With ``a`` and ``b``, also show what changed from ``a`` to ``b``."""
    comparison, refusal = None, None
    if a is not None and b is not None:
        try:
            comparison = services.generations.compare(a, b, archive=archive or None, limit=SHOWN_TAGS)
        except UsageError as error:
            refusal = error
    return _screen(request, services, comparison=comparison, refusal=refusal, chosen=(a, b, archive or ""))


@router.post("/generations/{generation_id}/use")
def use_generation(
    request: Request, services: ServicesDep, generation_id: GenerationId, *, force: Annotated[bool, Form()] = False
) -> Response:
    """Use a generation for search. If that is refused, show the reason and a button to do it anyway."""
    try:
        services.generations.use(generation_id, force=force)
    except ConflictError as error:
        return _screen(request, services, refusal=error, refused_use=generation_id)
    return RedirectResponse("/generations", status_code=303)


@router.post("/generations/rollback")
def rollback_generation(request: Request, services: ServicesDep) -> Response:
    """Use the previous generation for search again."""
    try:
        services.generations.rollback()
    except ConflictError as error:
        return _screen(request, services, refusal=error)
    return RedirectResponse("/generations", status_code=303)


@router.post("/generations/{generation_id}/drop")
def drop_generation(
    request: Request, services: ServicesDep, generation_id: GenerationId, *, sure: Annotated[bool, Form()] = False
) -> Response:
    """Erase a generation after a confirmation."""
    if not sure:
        return _screen(request, services, asked_drop=generation_id)
    try:
        services.generations.drop(generation_id)
    except ConflictError as error:
        return _screen(request, services, refusal=error)
    return RedirectResponse("/generations", status_code=303)


@router.post("/generations/stages/{generation_id}/use")
def use_stage_generation(request: Request, services: ServicesDep, generation_id: GenerationId) -> Response:
    """Let search use the results of a generation for its stage."""
    try:
        services.stages.use(generation_id)
    except ConflictError as error:
        return _screen(request, services, refusal=error)
    return RedirectResponse("/generations#stages-title", status_code=303)


@router.post("/generations/stages/{generation_id}/drop")
def drop_stage_generation(
    request: Request, services: ServicesDep, generation_id: GenerationId, *, sure: Annotated[bool, Form()] = False
) -> Response:
    """Erase the results of a generation of a further stage after a confirmation."""
    try:
        if not sure:
            asked = (generation_id, services.stages.about_drop(generation_id).question)
            return _screen(request, services, asked_stage_drop=asked)
        services.stages.drop(generation_id)
    except ConflictError as error:
        return _screen(request, services, refusal=error)
    return RedirectResponse("/generations#stages-title", status_code=303)


def _screen(  # noqa: PLR0913  (the variables of the template, as keywords)
    request: Request,
    services: Services,
    *,
    comparison: GenerationComparison | None = None,
    refusal: RamqError | None = None,
    refused_use: int | None = None,
    asked_drop: int | None = None,
    asked_stage_drop: tuple[int, str] | None = None,
    chosen: tuple[int | None, int | None, str] = (None, None, ""),
) -> HTMLResponse:
    status = 200
    if refusal is not None:
        status = 409 if isinstance(refusal, ConflictError) else 422
    return templates_of(request).show(
        request,
        "generations.html",
        status=status,
        generations=services.generations.list(),
        stages=services.stages.generations(),
        archives=services.archives.names(),
        comparison=comparison,
        problem=None if refusal is None else make_problem(status, refusal.code, str(refusal)),
        refused_use=refused_use,
        asked_drop=asked_drop,
        asked_stage_drop=asked_stage_drop,
        chosen=chosen,
    )

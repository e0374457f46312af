"""Generations under ``/v1``: list, compare, use and drop them."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from ramq.schemas.generations import ComparisonOut, DropOut, GenerationStateOut, UseGeneration
from ramq.schemas.views import PageOut
from ramq.web.deps import MAX_TEXT, Limit, ServicesDep

MAX_GENERATION = 2**15 - 1

GenerationId = Annotated[int, Path(ge=1, le=MAX_GENERATION)]

router = APIRouter(prefix="/v1/generations", tags=["generations"])


@router.get("")
def list_generations(services: ServicesDep) -> PageOut[GenerationStateOut]:
    """List the generations of results: model, weights, vocabulary, preprocessing, and how much each has recorded."""
    items = [GenerationStateOut.model_validate(generation) for generation in services.generations.list()]
    return PageOut[GenerationStateOut](items=items)


@router.get("/compare")
def compare_generations(
    services: ServicesDep,
    a: Annotated[int, Query(ge=1, le=MAX_GENERATION, description="the generation to start from")],
    b: Annotated[int, Query(ge=1, le=MAX_GENERATION, description="the one to compare with it")],
    archive: Annotated[str | None, Query(max_length=MAX_TEXT, description="an archive's id or URI")] = None,
    limit: Limit = 50,
) -> ComparisonOut:
    """Compare two generations, tag by tag."""
    return ComparisonOut.model_validate(services.generations.compare(a, b, archive=archive or None, limit=limit))


@router.post("/{generation_id}/use")
def use_generation(
    services: ServicesDep, generation_id: GenerationId, how: UseGeneration | None = None
) -> GenerationStateOut:
    """Use a generation for search from now on. Refused if it has recorded fewer images, unless `force` is set."""
    force = how is not None and how.force
    return GenerationStateOut.model_validate(services.generations.use(generation_id, force=force))


@router.post("/rollback")
def rollback_generation(services: ServicesDep) -> GenerationStateOut:
    """Use the previous generation for search again."""
    return GenerationStateOut.model_validate(services.generations.rollback())


@router.delete("/{generation_id}")
def drop_generation(services: ServicesDep, generation_id: GenerationId) -> DropOut:
    """Erase everything that a generation recorded: records, vectors, features and its index."""
    return DropOut.model_validate(services.generations.drop(generation_id))

"""Stages beside recognition under ``/v1``: start them on recorded images; list, use and drop their results."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request, status

from ramq.schemas.generations import DropOut, StageGenerationOut
from ramq.schemas.jobs import JobOut
from ramq.schemas.stages import EstimateOut, NewStageJobs
from ramq.schemas.views import PageOut
from ramq.web.api.generations import GenerationId
from ramq.web.deps import ServicesDep, caller_of
from storage.search.views import SearchQuery

Stage = Annotated[
    Literal["text", "locate", "crops", "look", "siglip", "clip", "dino", "metadata"],
    Path(
        description="`text` reads the text in images, `locate` finds where tags are, `crops` makes vectors of these "
        "regions, `metadata` reads what the files say; the others make vectors of images"
    ),
]

router = APIRouter(prefix="/v1/stages", tags=["stages"])


@router.get("")
def list_stage_generations(services: ServicesDep) -> PageOut[StageGenerationOut]:
    """List what made the results of each stage, and how many images each has done."""
    items = [StageGenerationOut.model_validate(generation) for generation in services.stages.generations()]
    return PageOut[StageGenerationOut](items=items)


@router.post("/{stage}/jobs", status_code=status.HTTP_201_CREATED)
def create_stage_jobs(request: Request, services: ServicesDep, stage: Stage, new: NewStageJobs) -> PageOut[JobOut]:
    """Start a stage on recorded images: all, those of an archive, or the hits of a search. One job for each archive.

    Images that the stage has done already, in the same version and for the same tags, are skipped. Regions for other
    tags replace the earlier ones of an image. The order and case of tags do not matter.
    """
    asked = services.search.read(SearchQuery(archive=new.archive or None), new.q)
    started = services.stages.start(
        stage,
        asked,
        words=new.q,
        priority=new.priority,
        model=new.model,
        options=new.asked,
        by=caller_of(request),
    )
    return PageOut[JobOut](items=[JobOut.model_validate(job) for job in started])


@router.post("/{stage}/estimate")
def estimate_stage_jobs(services: ServicesDep, stage: Stage, new: NewStageJobs) -> EstimateOut:
    """Say how many images such jobs would have and how long they may take, and start nothing."""
    asked = services.search.read(SearchQuery(archive=new.archive or None), new.q)
    return EstimateOut.model_validate(services.stages.estimate(stage, asked, model=new.model, options=new.asked))


@router.post("/generations/{generation_id}/use", status_code=status.HTTP_204_NO_CONTENT)
def use_stage_generation(services: ServicesDep, generation_id: GenerationId) -> None:
    """Let search use these results for their stage."""
    services.stages.use(generation_id)


@router.delete("/generations/{generation_id}")
def drop_stage_generation(services: ServicesDep, generation_id: GenerationId) -> DropOut:
    """Erase all results of a generation of a further stage."""
    return DropOut.model_validate(services.stages.drop(generation_id))

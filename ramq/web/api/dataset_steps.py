"""The data engine under ``/v1``: generate captions and tags for a data set, and clean its labels."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, status

from ramq.schemas.dataset_steps import CleanedTagOut, NewCleaning, NewGeneration, asked
from ramq.schemas.datasets import DatasetVersionOut
from ramq.schemas.views import PageOut
from ramq.web.api.datasets import Name
from ramq.web.deps import MAYBE_BLANK, ServicesDep, caller_of

MaybeNumber = Annotated[
    int | None, Query(ge=1, le=2**31 - 1, description="by default the newest version that is done"), MAYBE_BLANK
]

router = APIRouter(prefix="/v1/datasets", tags=["data sets"])


@router.post("/{name}/generate", status_code=status.HTTP_202_ACCEPTED)
def generate_labels(
    http: Request, services: ServicesDep, name: Name, new: NewGeneration, version: MaybeNumber = None
) -> DatasetVersionOut:
    """Begin the next version: with captions and tags that a model makes of every picture.

    Pictures that the model has not recognised yet are recognised first, by a job for each archive: see `job_ids`.
    """
    begun = services.dataset_steps.generate(
        _named(name, version), model=new.model, captioner=new.captioner, said_by=caller_of(http)
    )
    return DatasetVersionOut.model_validate(begun)


@router.post("/{name}/clean", status_code=status.HTTP_202_ACCEPTED)
def clean_labels(
    http: Request, services: ServicesDep, name: Name, new: NewCleaning, version: MaybeNumber = None
) -> DatasetVersionOut:
    """Begin the next version: without tags of pictures whose regions are outliers, contradict them, or are not there.

    What people said is kept. Labels that are dropped stay in the version with their reasons.
    """
    begun = services.dataset_steps.clean(_named(name, version), said_by=caller_of(http), **asked(new))
    return DatasetVersionOut.model_validate(begun)


@router.get("/{name}/cleaned")
def list_cleaned_tags(services: ServicesDep, name: Name, version: MaybeNumber = None) -> PageOut[CleanedTagOut]:
    """List what cleaning did to each tag, those with the most pictures first. 422 if the version is no cleaned one."""
    found = services.dataset_steps.cleaned_tags(_named(name, version))
    return PageOut[CleanedTagOut](items=[CleanedTagOut.model_validate(each) for each in found])


def _named(name: str, version: int | None) -> str:
    return name if version is None else f"{name}@{version}"

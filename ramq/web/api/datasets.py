"""Data sets under ``/v1``: build, watch, look at, correct and delete them."""

from typing import Annotated, Literal

from fastapi import APIRouter, BackgroundTasks, Path, Query, Request, status

from ramq.schemas.datasets import (
    DatasetDifferenceOut,
    DatasetOut,
    DatasetPictureOut,
    DatasetVersionOut,
    DeletedDatasetOut,
    NewDataset,
)
from ramq.schemas.views import PageOut
from ramq.services.dataset_views import BuildRequest
from ramq.web.deps import MAYBE_BLANK, Id, ServicesDep, absolute_source, caller_of
from storage.datasets.versions import VersionView
from storage.errors import NotFoundError, UsageError
from storage.objects.manifest import is_manifest

Name = Annotated[str, Path(max_length=100, pattern=r"^[^\x00@]+$", description="name of the data set")]
MaybeNumber = Annotated[
    int | None, Query(ge=1, le=2**31 - 1, description="by default the newest version, done or not"), MAYBE_BLANK
]
Number = Annotated[int, Query(ge=1, le=2**31 - 1, description="number of a version")]

router = APIRouter(prefix="/v1/datasets", tags=["data sets"])


@router.get("")
def list_datasets(services: ServicesDep) -> PageOut[DatasetVersionOut]:
    """List the data sets, each with its newest version."""
    return PageOut[DatasetVersionOut](
        items=[DatasetVersionOut.model_validate(each) for each in services.datasets.list()]
    )


@router.post("", status_code=status.HTTP_202_ACCEPTED)
def build_dataset(
    http: Request, services: ServicesDep, new: NewDataset, background: BackgroundTasks
) -> DatasetVersionOut:
    """Begin to build a data set, or its next version. Its sources are read after the response.

    If they cannot be read, the version fails, and its note says why.
    """
    request = BuildRequest(
        sources=[_source(source) for source in new.sources],
        caption_column=new.caption_column,
        validation=new.validation,
        near=new.near,
        vocabulary=new.vocabulary,
    )
    try:
        version = services.datasets.begin_build(new.name, request, by=caller_of(http))
    except NotFoundError as error:  # what is missing is named in the body, so this is not a 404
        raise UsageError(str(error)) from error
    background.add_task(services.datasets.gather_or_fail, version, request)
    return DatasetVersionOut.model_validate(version)


@router.get("/{name}")
def get_dataset(services: ServicesDep, name: Name, version: MaybeNumber = None) -> DatasetOut:
    """Return a version with its counts and tags."""
    found = _find(services, name, version)
    return DatasetOut(
        version=DatasetVersionOut.model_validate(found),
        deleted_since=services.datasets.deleted(found),
        tags=services.datasets.tags(found),  # pydantic reads the views
    )


@router.get("/{name}/versions")
def list_versions(services: ServicesDep, name: Name) -> PageOut[DatasetVersionOut]:
    """List the versions of a data set, in order."""
    found = services.datasets.versions(name)
    return PageOut[DatasetVersionOut](items=[DatasetVersionOut.model_validate(each) for each in found])


@router.get("/{name}/images/{image_id}")
def get_picture(services: ServicesDep, name: Name, image_id: Id, version: MaybeNumber = None) -> DatasetPictureOut:
    """Return what a version has of an image: captions, and labels with their origins and reasons."""
    found = services.datasets.picture(_find(services, name, version), image_id)
    return DatasetPictureOut.model_validate(found)


@router.get("/{name}/compare")
def compare_versions(services: ServicesDep, name: Name, old: Number, new: Number) -> DatasetDifferenceOut:
    """Compare the labels of two versions."""
    return DatasetDifferenceOut.model_validate(services.datasets.compare(f"{name}@{old}", f"{name}@{new}"))


@router.post("/{name}/correct", status_code=status.HTTP_202_ACCEPTED)
def correct_dataset(http: Request, services: ServicesDep, name: Name) -> DatasetVersionOut:
    """Begin the next version, with the corrections that people made since the newest one."""
    return DatasetVersionOut.model_validate(services.datasets.correct(name, by=caller_of(http)))


@router.post("/{name}/{action}")
def steer_dataset(services: ServicesDep, name: Name, action: Literal["pause", "resume", "cancel"]) -> DatasetVersionOut:
    """Pause, resume or cancel the step that makes the newest version."""
    return DatasetVersionOut.model_validate(services.datasets.steer(name, action))


@router.delete("/{name}")
def delete_dataset(services: ServicesDep, name: Name) -> DeletedDatasetOut:
    """Delete a data set with all its versions. Pictures, results and corrections stay."""
    return DeletedDatasetOut(name=name, versions=services.datasets.delete(name))


def _source(text: str) -> str:
    """Return a source. Raises ``UsageError`` for a relative path, which would depend on the server's directory."""
    return absolute_source(text) if text.startswith((".", "~")) or is_manifest(text) else text


def _find(services: ServicesDep, name: str, version: int | None) -> VersionView:
    return services.datasets.newest(name if version is None else f"{name}@{version}")

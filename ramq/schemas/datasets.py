"""The API's types for data sets."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ramq.schemas.views import FromView

Text = Annotated[str, Field(min_length=1, max_length=4_096, pattern=r"^[^\x00]*$")]


class NewDataset(BaseModel):
    """A data set to build, or its next version."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "pets", "sources": ["s3://holiday", "tag:dog"], "validation": 0.1}]},
    )

    name: Text
    sources: list[Text] = Field(min_length=1, max_length=100, description="archives, searches or manifests")
    caption_column: Text | None = Field(default=None, description="of manifests; by default found by its name")
    validation: float = Field(default=0.1, ge=0, lt=1, description="share of the pictures for validation")
    near: float | None = Field(
        default=None, gt=0, le=1, description="pictures with this cosine are in one split; by default 0.9 or 0.97"
    )
    vocabulary: Text | None = Field(default=None, description="by default that of the generation in use")


class DatasetVersionOut(FromView):
    """A version of a data set, and how far its step is."""

    id: int
    name: str
    number: int
    parent: int | None = Field(description="number of the version that it was made from")
    step: Literal["build", "import", "generate", "clean", "correct"]
    state: Literal["running", "paused", "done", "cancelled", "failed"]
    phase: str | None = Field(description="the part of the step that is under way")
    settings: dict[str, Any] = Field(description="what was asked for")
    job_ids: list[int] = Field(description="the jobs that the step began or waited for")
    tasks: int = Field(description="of the phase")
    tasks_done: int
    eta_seconds: float | None = Field(description="until the end of the phase; null if it is not known")
    counts: dict[str, Any] = Field(description="what it has; complete once it is done")
    sha256: str | None = Field(description="over all pictures and labels; null until it is done")
    note: str | None = Field(description="what it waits for, or why it failed")
    said_by: str
    created_at: datetime
    finished_at: datetime | None


class DatasetTagOut(FromView):
    """A tag of a version."""

    tag_id: int
    name: str
    kept: int = Field(description="pictures that have it")
    dropped: dict[str, int] = Field(description="pictures that lost it, by reason")
    origins: dict[str, int] = Field(description="pictures that have it, by origin")


class DatasetOut(FromView):
    """A version with its tags."""

    version: DatasetVersionOut
    deleted_since: int = Field(description="pictures that were deleted since it was made")
    tags: list[DatasetTagOut] = Field(description="most pictures first")


class DatasetLabelOut(FromView):
    """A tag of a picture."""

    tag_id: int
    name: str
    origins: list[str] = Field(description="`given`, `parsed`, `generated`, `corrected`")
    reason: str | None = Field(
        description="why it was dropped: `outlier`, `contradicted`, `no_region`, `removed`; null: it is kept"
    )
    certainty: float | None = Field(description="0..1")
    evidence: dict[str, Any] | None


class DatasetCaptionOut(FromView):
    """A caption of a picture."""

    caption: str
    origin: str = Field(description="`given` or `generated`")


class DatasetPictureOut(FromView):
    """A picture of a version."""

    image_id: int
    uri: str
    is_validation: bool
    group_id: int | None = Field(description="pictures with the same one are the same, or nearly")
    captions: list[DatasetCaptionOut]
    labels: list[DatasetLabelOut]


class TagDifferenceOut(FromView):
    """Pictures that have a tag in one of two versions only."""

    tag_id: int
    name: str
    added: int
    removed: int


class DatasetDifferenceOut(FromView):
    """What two versions differ in."""

    old: DatasetVersionOut
    new: DatasetVersionOut
    tags: list[TagDifferenceOut] = Field(description="most changes first")


class DeletedDatasetOut(FromView):
    """A data set that was deleted."""

    name: str
    versions: int

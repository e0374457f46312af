"""The API's types for the steps of the data engine."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ramq.schemas.datasets import Text
from ramq.schemas.views import FromView


class NewGeneration(BaseModel):
    """What a step `generate` is asked for."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"model": "ram_plus", "captioner": "none"}]}
    )

    model: Text | None = Field(default=None, description="model of recognition; by default the one that search uses")
    captioner: Literal["tag2text", "none"] | None = Field(default=None, description="by default as in the settings")


class NewCleaning(BaseModel):
    """What a step `clean` is asked for. Fields that are left out have the defaults of the paper, or of the server."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"regions": "whole", "outlier_share": 0.05}]}
    )

    regions: Literal["located", "whole"] | None = Field(
        default=None,
        description="`located`: regions that a detector finds, the default where a worker has one; `whole`: each "
        "picture is its own region",
    )
    detector: Text | None = None
    recogniser: Text | None = Field(default=None, description="the model that sees the regions")
    outlier_share: float | None = Field(default=None, ge=0, le=0.5, description="of a tag's regions; 0: none")
    clusters: int | None = Field(default=None, ge=1, le=1000, description="by default by the number of regions")
    min_regions: int | None = Field(default=None, ge=2, description="a tag with fewer loses none as outliers")
    contradiction: bool | None = Field(default=None, description="whether regions contradict tags that are not seen")
    threshold: float | None = Field(default=None, ge=0, le=1, description="below it a tag is not seen")
    no_region: Literal["drop", "keep"] | None = None
    several_regions: Literal["all", "any"] | None = Field(
        default=None, description="whether all regions of a picture must speak against a tag, or any"
    )
    seed: int | None = Field(default=None, ge=0, le=2**32 - 1)


class CleanedRegionOut(FromView):
    """A typical region of a tag."""

    image_id: int
    region: int = Field(description="number of the region in the image; 0: the whole picture")
    box: list[float] = Field(description="left, top, right, bottom as fractions of the picture")


class CleanedTagOut(FromView):
    """What cleaning did to a tag: `labels` are `kept` and `dropped` ones."""

    tag: int
    name: str
    labels: int
    kept: int
    dropped: dict[str, int] = Field(description="by reason: `outlier`, `contradicted`, `no_region`")
    already_dropped: int = Field(description="labels that were dropped before")
    confirmed_by_people: int = Field(description="labels that would have been dropped")
    not_looked_at: int = Field(description="labels whose pictures could not be looked at; they are kept")
    regions: int
    asked: int = Field(description="regions about which the model was asked")
    clusters: int
    skipped: str | None = Field(
        description="`found_nowhere` and `no_thing`: all were kept; `too_few_regions`: none was an outlier"
    )
    typical: list[CleanedRegionOut]


def asked(new: NewCleaning) -> dict[str, Any]:
    """Return what was asked for, without what was not."""
    return new.model_dump(exclude_none=True)

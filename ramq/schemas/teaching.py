"""The API's types for teaching."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

from ramq.schemas.jobs import JobOut
from ramq.schemas.views import FromView

ImageIds = Annotated[list[Annotated[StrictInt, Field(ge=1, le=2**63 - 1)]], Field(max_length=10_000)]


class TagToTeach(BaseModel):
    """A tag, and images that are of this kind or not."""

    model_config = ConfigDict(extra="forbid")

    tag: str = Field(min_length=1, max_length=100, description="a new name, or a tag to mend")
    yes: ImageIds = Field(default_factory=list, description="images of this kind; corrections count too")
    no: ImageIds = Field(default_factory=list, description="images that are not of this kind")


class NewTeaching(BaseModel):
    """What to teach: one tag, or all tags with enough corrections."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"tag": {"tag": "our logo", "yes": [12, 31, 44, 45, 78], "no": [13]}, "apply": True}]
        },
    )

    tag: TagToTeach | None = Field(None, description="null: every tag that people added to `least` images")
    least: StrictInt = Field(5, ge=5, le=1_000_000, description="without `tag`: how many images are enough")
    precision: float = Field(0.9, ge=0.5, le=0.99, description="share of the images with the tag that shall be right")
    apply: StrictBool = Field(False, description="give the tags to all recorded images; if not, nothing is changed")
    skip_missing: StrictBool = Field(False, description="leave out images whose features are not kept")


class ShareOut(FromView):
    """A share, by held-out pictures, and the interval in which it lies with a confidence of 95 %."""

    value: float | None = Field(description="null: there was nothing to count")
    low: float
    high: float


class MeasureOut(FromView):
    """What a tag does on held-out pictures."""

    precision: ShareOut = Field(
        description="of the archive's images that get the tag, the share that is right. The value is an estimate; the "
        "interval begins where none of those is right that nobody named, and ends where all are"
    )
    recall: ShareOut = Field(description="of the pictures named yes, the share that gets it")
    average_precision: float
    images: int = Field(description="about how many images of the archive get the tag")
    images_most: int = Field(description="they are at most so many (confidence 97.5 %)")
    archive: int = Field(description="images of the archive")
    known: int = Field(description="of the images that get the tag, how many people named")


class WayOut(FromView):
    """A way to score a tag that was tried."""

    method: str
    measure: MeasureOut


class TeachReportOut(FromView):
    """What was learnt of a tag."""

    tag: str
    is_new: bool
    method: str = Field(
        description="`head`: by kept features; `own+head`: by these and the model's score; `threshold`: by the model's "
        "score; `description`: by the tag's name"
    )
    threshold: float
    asked: float = Field(description="the precision that was asked for")
    is_reached: bool = Field(description="whether a threshold has this precision by the estimate")
    yes: int
    no: int
    left_out: int = Field(description="named images that were not learnt, where there are more than 1,000")
    unnamed: int = Field(description="images taken at random, most of which are not of this kind")
    before: MeasureOut | None = Field(
        description="what the tag did until now; null: it is new, or its former head was made from these pictures"
    )
    after: MeasureOut
    ways: list[WayOut]
    gain: float | None = Field(
        description="part of the average precision that is due to the last half of the pictures; null: too few to tell"
    )
    helps: bool = Field(description="whether naming more pictures would help")
    gains_nothing: bool = Field(
        False, description="whether the tag is as good as before, so that it need not be applied"
    )
    advice: str
    seconds: float


class TaughtOut(FromView):
    """The result of teaching."""

    reports: list[TeachReportOut]
    from_generation_id: int
    vocabulary: str | None = Field(description="the vocabulary with the tags; null: nothing was applied")
    jobs: list[JobOut] = Field(description="those that give the tags to the recorded images")
    warnings: list[str] = Field(
        default_factory=list, description="taught tags that the new generation does not have, and what to do about each"
    )


class TaughtTagOut(FromView):
    """A tag that people taught, as it was taught last."""

    tag: str
    method: str
    vocabulary: str
    generations: list[int]
    is_serving: bool = Field(description="whether search uses one of these generations")
    yes: int
    no: int
    report: dict[str, Any]
    said_by: str
    taught_at: datetime


class WantedLabels(TagToTeach):
    """For which tag images to label are wanted, and how many."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"tag": "our logo", "yes": [12, 31], "count": 6}]}
    )

    count: StrictInt = Field(12, ge=1, le=500)


class ToLabelOut(FromView):
    """An image to label next."""

    image_id: int
    score: float = Field(description="of the tag; 0.5 is the threshold")


class SuggestionsOut(FromView):
    """Images to label next, the least certain first."""

    tag: str
    images: list[ToLabelOut]
    yes: int
    no: int
    helps: bool
    advice: str

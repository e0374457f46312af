"""The JSON of jobs of further stages, and of what they would cost."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from ramq.schemas.views import FromView
from storage.ledger.views import Priority


class EstimateOut(FromView):
    """What new jobs of a stage would cost."""

    stage: str
    model: str
    images: int = Field(description="that the jobs would list")
    done: int = Field(description="of these, the images that they would skip, because they have been done already")
    tags: float | None = Field(description="for `locate`: how many are looked for in an image, on average")
    images_per_second: float | None = Field(description="the rate of earlier jobs of the same generation; null: none")
    seconds: float | None = Field(description="how long the rest takes at this rate; null without one")
    is_alike: bool = Field(description="whether these earlier jobs asked for the same, such as the same tags")
    vector_size: int | None = Field(description="for spaces: the length of a vector; null: not known")
    vector_bytes: int | None = Field(description="of the missing vectors, in the database and again in the index")
    lacking: str | None = Field(description="what to do about weights that no live worker has; null: nothing")
    unused: str | None = Field(description="what to do so that search uses these results; null: it does")


class NewStageJobs(BaseModel):
    """New jobs of a stage over recorded images."""

    model_config = ConfigDict(extra="forbid")

    q: str | None = Field(
        None,
        max_length=2_000,
        pattern=r"^[^\x00]*$",
        description="the search whose hits it works on, as in `GET /v1/search`; null: all recorded images",
        examples=["street sign"],
    )
    archive: str | None = Field(
        None, max_length=4_096, pattern=r"^[^\x00]*$", description="only images of this archive: its URI or number"
    )
    priority: Priority = "normal"
    model: str | None = Field(
        None,
        max_length=200,
        description="a model of the stage, for `locate` also `DETECTOR+SEGMENTER`; default: the server's",
    )
    tags: list[Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]] = Field(
        [], max_length=1_000, description="for `locate`: what to look for; empty: the tags that each image has"
    )

    again: bool = Field(
        False, description="for `metadata`: also read files that were read before, for example without their places"
    )

    @property
    def asked(self) -> dict[str, Any]:
        """The options of the jobs."""
        return ({"tags": self.tags} if self.tags else {}) | ({"again": True} if self.again else {})

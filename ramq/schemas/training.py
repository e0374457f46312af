"""The API's types for trainings."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from ramq.schemas.views import FromView


class DataOut(FromView):
    """What a training learns from."""

    name: str
    images: int
    captions: int


class ScoreOut(FromView):
    """The mean average precision on the validation images after some epochs; 0: before the first step."""

    epochs: int
    validation_map: float = Field(description="0..1")


class PointOut(FromView):
    """Means over some steps."""

    step: int = Field(description="the last of these steps, counted over all epochs")
    learning_rate: float
    losses: dict[str, float]


class TrainingOut(FromView):
    """A training."""

    name: str
    state: Literal["running", "finished", "stopped", "failed", "interrupted"] = Field(
        description="`stopped`: on request; `interrupted`: it was killed. Both can be resumed"
    )
    note: str | None = Field(description="why it failed or stopped")
    model: str
    recipe: str
    parent: str = Field(description="the weights that it began with")
    data: DataOut
    epoch: int = Field(description="the current one, from 1")
    epochs: int
    step: int = Field(description="steps done, over all epochs")
    steps: int
    images_per_second: float | None
    seconds_left: float | None = Field(description="until the end, without validation; null if it is not known")
    scores: list[ScoreOut]
    bad_images: int = Field(description="images that could not be read")
    started_at: datetime
    updated_at: datetime


class TrainingCurveOut(TrainingOut):
    """A training with the course of its losses."""

    points: list[PointOut] = Field(description="at most 300, evenly spread")

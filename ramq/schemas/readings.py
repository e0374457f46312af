"""The JSON of the text in images."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ramq.schemas.views import FromView

Fraction = Annotated[float, Field(ge=0, le=1)]
Corner = Annotated[list[Fraction], Field(min_length=2, max_length=2)]
Corners = Annotated[
    list[Corner],
    Field(
        min_length=4,
        max_length=4,
        description="four corners [x, y] as fractions of the upright image's width and height, clockwise from the "
        "text's own top left",
        examples=[[[0.1, 0.2], [0.6, 0.2], [0.6, 0.25], [0.1, 0.25]]],
    ),
]


class LineOut(FromView):
    """A line of text in an image."""

    number: int = Field(description="its place in the reading order, from 1")
    text: str
    confidence: float = Field(description="0..1; 1 for a line that a person wrote")
    polygon: list[list[float]] = Field(
        description="four corners (x, y) as fractions of the upright image's width and height, clockwise from the "
        "text's own top left"
    )
    correction_id: int | None = Field(description="the correction that made it what it is; null: as it was read")


class LineCorrectionOut(FromView):
    """A manual correction of the text at a place in an image."""

    id: int
    text: str | None = Field(description="the right text; null: there is no text")
    polygon: list[list[float]]
    said_by: str = Field(description="name of the author's token, or `local`")
    said_at: datetime


class ReadingOut(FromView):
    """The text in one image, with people's corrections."""

    image_id: int
    generation_id: int
    model: str
    lines: list[LineOut]
    is_cut: bool = Field(description="whether there is more text than the limit")
    read_at: datetime
    corrections: list[LineCorrectionOut]


class LineCorrection(BaseModel):
    """A new correction of the text at a place in an image."""

    model_config = ConfigDict(extra="forbid")

    polygon: Corners
    text: str | None = Field(max_length=1_000, description="the right text, one line; null: there is no text")

"""The JSON of images of which people said something and whose files are missing."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from ramq.schemas.views import FromView, PageOut


class MissingOut(FromView):
    """An image whose file is missing, and how much people said of it."""

    image_id: int = Field(description="its number, which it keeps if the file appears again")
    archive: str
    key: str = Field(description="where it was last")
    missing_since: datetime
    added: list[str] = Field(description="tags that people gave it")
    removed: list[str] = Field(description="tags that people took from it")
    keywords: list[str] = Field(description="words that people gave it")
    lines: int = Field(description="corrections of the text in it")
    regions: int = Field(description="corrections of its regions")
    in_datasets: int = Field(description="versions of data sets that it is in")
    at_its_key: int | None = Field(description="the image that is at its key now")


class MissingPageOut(PageOut[MissingOut]):
    """Some images."""


class ContinueAt(BaseModel):
    """Where an image continues whose file is missing."""

    model_config = ConfigDict(extra="forbid")

    at: int = Field(
        ge=1,
        lt=2**63,
        description="an image of the same archive whose file is there; its number then leads to the first",
    )

"""The JSON of keywords that people give images."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ramq.schemas.views import FromView

MAX_ID = 2**63 - 1
MOST_IMAGES = 10_000
Word = Annotated[str, Field(max_length=2_000)]


class KeywordCountOut(FromView):
    """A keyword, and on how many images it is because people gave it to them."""

    word: str = Field(examples=["wedding"])
    images: int = Field(description="number of images")


class KeywordActOut(FromView):
    """What a person did to the keywords of some images at one time. It can be undone as a whole."""

    id: int
    what: str = Field(examples=["give wedding, garden"])
    added: list[str] = Field(description="keywords that it gives")
    removed: list[str] = Field(description="keywords that it removes")
    tags: list[str] = Field(description="tags that it added with them, as corrections")
    is_rename: bool = Field(description="whether it is only about images that have what it removes")
    query: str | None = Field(description="the search that chose the images; null: they were named")
    images: int = Field(description="number of images that were chosen")
    seen: int = Field(description="how many of them are done")
    changed: int = Field(description="how many of these got or lost a keyword")
    full: int = Field(description="how many have too many keywords already, and stayed as they were")
    said_by: str = Field(description="name of the author's token, or `local`")
    said_at: datetime
    state: Literal["unfinished", "done", "undoing", "undone"] = Field(
        description="`unfinished` and `undoing`: send `continue` until it is another one"
    )
    undone_by: str | None
    undone_at: datetime | None
    redone_by: str | None = Field(description="who did it again after it was undone")


class NewKeywords(BaseModel):
    """Keywords to give to images or to remove from them."""

    model_config = ConfigDict(extra="forbid")

    add: list[Word] = Field(default=[], max_length=50, description="keywords to give, as they shall be shown")
    remove: list[Word] = Field(default=[], max_length=50, description="keywords to remove, in any case")
    images: list[Annotated[int, Field(ge=1, le=MAX_ID)]] | None = Field(
        default=None,
        max_length=MOST_IMAGES,
        description="ids; omit it for all images that the search in the query string finds",
    )
    everything: bool = Field(default=False, description="without images and without a search: all images")
    with_tags: bool = Field(
        default=False, description="also add the tags that have the names of added keywords, as corrections"
    )


class NewKeywordName(BaseModel):
    """Another keyword for all images that have one."""

    model_config = ConfigDict(extra="forbid")

    old: Word
    new: Word

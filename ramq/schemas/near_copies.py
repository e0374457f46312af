"""The JSON of groups of near copies."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from ramq.schemas.views import FromView, PageOut


class NearCopyOut(FromView):
    """An image of a group."""

    image_id: int
    archive: str
    key: str
    width: int | None = Field(description="in pixels, of the upright picture; null: not known")
    height: int | None
    size_bytes: int
    modified_at: datetime | None
    distance: int = Field(
        description="how many of 64 bits of the hash of what it shows differ from the picture around which the group is"
    )
    cosine: float = Field(description="of its vector and that of this picture")
    same: Literal["bytes", "pixels", "near"] = Field(
        description="what it shares with the largest image of the group: all bytes, all pixels as the model saw them, "
        "or nearly the picture"
    )
    is_largest: bool = Field(
        description="whether it has the most pixels; of equally many, the most bytes; then the earliest date taken; "
        "then the first key"
    )


class NearGroupOut(FromView):
    """Images that show nearly the same and whose originals are there."""

    group_id: int = Field(description="the number of the image around which the group is")
    count: int = Field(description="number of images")
    images: list[NearCopyOut] = Field(
        description="the first 12, the largest first; a search for `nearly:` with the id of one finds them all"
    )


class NearGroupsOut(PageOut[NearGroupOut]):
    """Some groups."""


class NearStateOut(FromView):
    """The last search for near copies, and what it does not know."""

    found_at: datetime | None = Field(description="when it ended; null: there was none yet")
    is_running: bool = Field(description="whether a search is under way")
    is_requested: bool = Field(description="whether somebody asked for another one")
    newer: int = Field(description="number of images that were read or changed since; 1,000,000: or more")
    generation_id: int | None = Field(description="whose vectors were compared")
    distance: int | None = Field(description="the most bits of 64 in which the hashes of near copies differ")
    cosine: float | None = Field(description="the least cosine of their vectors")
    images: int = Field(description="number of images that were compared")
    unread: int = Field(
        description="number of images without a hash: an older version of ramq read them, or they could not be read"
    )
    plain: int = Field(description="number of images with next to no structure, such as black ones: not compared")
    common: int = Field(description="number of images with too many candidates, not compared with all of them")
    grouped: int = Field(description="number of images in groups")
    seconds: float = Field(description="how long it took")

"""The JSON of groups of images with the same bytes."""

from pydantic import Field

from ramq.schemas.views import FromView, PageOut


class CopyOut(FromView):
    """An image of a group."""

    image_id: int
    archive: str
    key: str


class CopyGroupOut(FromView):
    """Images with the same bytes whose originals are there."""

    hash: str = Field(description="the first 16 bytes of the SHA-256 of their bytes, in hexadecimal")
    count: int = Field(description="number of images")
    size_bytes: int = Field(description="of each")
    images: list[CopyOut] = Field(
        description="the first 12 by id; a search for `same:` with the id of one finds them all"
    )


class CopyGroupsOut(PageOut[CopyGroupOut]):
    """Some groups."""

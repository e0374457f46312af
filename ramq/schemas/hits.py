"""The JSON of searches: hits, why they were found, and the tags that they have."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from ramq.schemas.readings import LineOut
from ramq.schemas.regions import BOX
from ramq.schemas.views import CONTRADICTS, FromView, LocalTime, PageOut, TagOut


class FoundInOut(FromView):
    """The place of an image in a ranking by the vectors of one space."""

    space: str = Field(description="`text`, `look`, `siglip`, `clip` or `dino`")
    of: Literal["text", "image", "both"] = Field(
        description="what images are compared with; `both`: what lies midway between the text and the image"
    )
    rank: int = Field(description="the place, from 1")
    similarity: float = Field(description="cosine similarity of the vectors")


class WhyOut(FromView):
    """Why a search by text or similarity found an image."""

    similarity: float | None = Field(
        description="cosine similarity of the text and the image, in the first space that compares them; null if the "
        "image is not ranked by the text"
    )
    tags: list[int] = Field(description="ids of the image's tags that the text names")
    is_read: bool = Field(default=False, description="whether all words of the text stand in the image; see `read`")
    is_told: bool = Field(
        default=False,
        description="whether all words of the text stand in the image's keywords, title and description; see `told`",
    )
    spaces: list[FoundInOut] = Field(default=[], description="the image's place in each space that ranks it")
    added: list[str] = Field(default=[], description="names of those of `tags` that a person added")
    removed: list[str] = Field(
        default=[],
        description="names of the tags that the text names and that a person removed, if the image has nothing else of "
        "what the text names; such images are found only without a relevance cutoff, and come last",
    )


class ReadMatchOut(FromView):
    """A line of text that matches a search."""

    line: LineOut
    spans: list[list[int]] = Field(
        description="begin and end of each matching stretch of the text, in characters from 0"
    )


class ToldOut(FromView):
    """What is said of an image in words, and that a search found."""

    source: Literal["person", "keyword", "title", "description"] = Field(
        description="`person`: a keyword that a person gave it; the others are in its file"
    )
    text: str
    spans: list[list[int]] = Field(
        description="begin and end of each matching stretch of the text, in characters from 0; none for a keyword that "
        "was asked for as a whole"
    )


class RegionMatchOut(FromView):
    """A region that a search is about. `/v1/images/{image_id}/regions/{number}/crop` shows it."""

    number: int = Field(description="its place in the list of the image's regions, from 1")
    tag: str
    score: float = Field(description="0..1; 1 for a region that a person drew")
    box: list[float] = Field(description=BOX)


class CropTagOut(FromView):
    """A tag of a region as a picture of its own."""

    name: str
    score: float


class HitRegionOut(FromView):
    """The region of an image that a search for regions found."""

    number: int = Field(description="its place in the list of the image's regions, from 1")
    tag: str
    box: list[float] = Field(description=BOX)
    tags: list[CropTagOut] = Field(description="tags of the region as a picture of its own, highest score first")


class HitOut(FromView):
    """One image that a search found, or with `like_region` one region of it."""

    image_id: int
    key: str
    archive: str
    score: float = Field(
        description="the number by which hits are ranked: cosine similarity, plus a share of the scores of tags that "
        "the text names, plus 1 if all words of the text stand in the image or in what is said of it; by several "
        "spaces together, 0 to 1, 1 for the first of each; without a text or an image, the mean score of the required "
        "tags; with `read:`, half of it for the words"
    )
    tags: list[TagOut]
    caption: str | None
    captioner: str | None = Field(description="author of the caption; `template`: composed from the tags")
    caption_contradicts: list[str] = Field(default=[], description=CONTRADICTS)
    is_corrected: bool = Field(description="whether its tags were corrected manually")
    generation_id: int
    width: int = Field(description="in pixels")
    height: int = Field(description="in pixels")
    taken_at: LocalTime | None = Field(
        default=None, description="the date in the file, in local time, with `sort`; `score` is 0 then"
    )
    missing: bool = Field(description="whether the last listing did not find the original")
    missing_since: datetime | None
    duplicates: int = Field(
        default=1,
        description="number of images with the same bytes, this one included, whose originals are there; 10,000: or "
        "more. `q=same:` with its id finds them",
    )
    near_copies: int = Field(
        description="number of images in its group of near copies, this one included, as the last search for them "
        "found; 1: it is in none. `q=nearly:` with its id finds them",
    )
    truncated: bool = Field(default=False, description="whether the file is cut short, and was read as far as it goes")
    page: int | None = Field(default=None, description="number of the page of the file, from 1; null: it has one")
    pages: int | None = Field(default=None, description="pages of the file; null: it has one")
    file_key: str = Field(default="", description="key of the file: that of the image, except of further pages")
    why: WhyOut | None = None
    read: list[ReadMatchOut] = Field(default=[], description="the lines of text in the image that match, at most five")
    keywords: list[str] = Field(default=[], description="words that people gave the image; they are no tags")
    told: list[ToldOut] = Field(
        default=[],
        description="what matches in these, and in keywords, title and description of the file, at most five",
    )
    regions: list[RegionMatchOut] = Field(
        default=[], description="the regions in the image of the tags that `count:` and `area:` name"
    )
    region: HitRegionOut | None = Field(
        default=None, description="the region, in a search with `like_region`; `score` is then its similarity"
    )


class NoteOut(FromView):
    """A note about how a part of `q` was read, if that may not be what was intended."""

    text: str = Field(validation_alias="line", examples=['Searched as words: dog. Unknown tag "dog".'])
    suggestions: list[str] = Field(description="similar names of tags, most similar first")


class HitsOut(PageOut[HitOut]):
    """Some hits."""

    total: int | None = Field(
        description="number of matching images on all pages; null for a text search whose last page is still far"
    )
    below: int | None = Field(
        default=None,
        description="number of further images that match the rest of the query, but are less similar than the "
        "relevance cutoff; null if unknown",
    )
    space: str | None = Field(
        default=None,
        description="the spaces whose vectors ordered the hits, comma-separated; null: none did",
        examples=["text,siglip"],
    )
    unranked: dict[str, int] = Field(
        default={},
        description="for each of these spaces, how many matching images have no vector in it yet, so that it does not "
        "rank them; without the spaces that have all",
        examples=[{"siglip": 12}],
    )
    notes: list[NoteOut] = Field(
        default=[],
        description="the parts of `q` that were not read as tags and filters; of the last page, why it is the last, if "
        "further images match",
    )


class FacetOut(FromView):
    """A tag, and the number of matching images with it."""

    id: int
    name: str
    name_zh: str | None
    count: int


class RegionFacetOut(FromView):
    """The number of matching images with so many regions of a tag."""

    name: str
    name_zh: str | None
    count: int = Field(description="number of images")
    low: int = Field(description="at least so many regions")
    high: int | None = Field(description="at most so many regions; null: no limit")
    query: str = Field(description="what narrows a search to these images", examples=["count:dog>=1"])


class RegionFacetsOut(FromView):
    """The located tags of the matching images."""

    tags: list[RegionFacetOut] = Field(description="those with any region, the most frequent first, at most 12")
    numbers: list[RegionFacetOut] = Field(
        description="if the search counts the regions of a tag (`count:`): the images by that number"
    )


class FileFacetOut(FromView):
    """The number of matching images that have something in common."""

    label: str = Field(examples=["2023-05", "NIKON D90"])
    count: int = Field(description="number of images")
    query: str = Field(description="what narrows a search to these images", examples=["taken:2023-05"])


class FileFacetsOut(FromView):
    """The matching images by what their files say, and by their places."""

    step: Literal["year", "month", "day"] = Field(
        description="what an item of `taken` stands for: a year; a month if all images were taken in one year, and a "
        "day if in one month"
    )
    taken: list[FileFacetOut] = Field(
        description="by the date in the file, oldest first; periods without images are left out"
    )
    undated: int = Field(description="images without a date in the file")
    cameras: list[FileFacetOut] = Field(description="most images first, at most 20")
    archives: list[FileFacetOut] = Field(description="most images first, at most 20")
    folders: list[FileFacetOut] = Field(
        description="the folders next below what all keys have in common, by name, at most 20; none if there are more "
        "than a thousand"
    )
    keywords: list[FileFacetOut] = Field(
        default=[],
        description="by keyword, whether it is in their files or a person gave it, most images first, at most 20; "
        "empty if there are too many to count",
    )


class FacetsOut(PageOut[FacetOut]):
    """Some tags."""

    files: FileFacetsOut | None = Field(
        default=None,
        description="the matching images by date, camera, archive and folder, on the first page; null if they are too "
        "many to count",
    )

    regions: RegionFacetsOut | None = Field(
        default=None,
        description="located tags of the matching images, on the first page; null if the images are too many to count",
    )

    notes: list[NoteOut] = Field(default=[], description="the parts of `q` that were not read as tags and filters")

"""The JSON of the API, with one model for each view. Fields may be added, but are never renamed."""

from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

CONTRADICTS = "names of the tags that a person removed, but that the caption of a model names; do not take it for true"

Item = TypeVar("Item")


LocalTime = Annotated[datetime, WithJsonSchema({"type": "string", "examples": ["2023-05-01T18:30:00"]})]
"""A time as a clock showed it. The format ``date-time`` would need a zone."""


class FromView(BaseModel):
    """A model that is filled from a view's attributes."""

    model_config = ConfigDict(from_attributes=True)


class PageOut(FromView, Generic[Item]):
    """A page of items, and the cursor for the next page (null: this is the last page)."""

    items: list[Item]
    next_cursor: str | None = None


class TagOut(FromView):
    """A tag of an image. `threshold` is the one used for this response."""

    id: int
    name: str
    name_zh: str | None
    score: float = Field(description="0..1")
    threshold: float
    source: Literal["model", "person"] = Field(
        description="tags added by a person are assigned whatever the threshold is"
    )


class HistoryOut(FromView):
    """One entry in the history of an image: the outcome of a job."""

    at: datetime
    job_id: int
    generation_id: int
    stage: str = Field(description="`recognition`, `text`, `locate`, `crops`, or a space such as `look`")
    model: str
    outcome: Literal["recorded", "failed"]
    version: str
    error_class: str | None
    detail: str | None
    attempts: int | None


class VectorOut(FromView):
    """A vector that an image has."""

    space: str = Field(description="`text`: that of recognition; or `look`, `siglip`, `clip` or `dino`")
    model: str
    generation_id: int
    length: int = Field(description="number of its numbers")


class CorrectionOut(FromView):
    """A manual correction of a tag of an image."""

    name: str = Field(description="in lower case")
    is_present: bool
    said_by: str = Field(description="name of the author's token, or `local`")
    said_at: datetime


class Correction(BaseModel):
    """A new correction of a tag."""

    model_config = ConfigDict(extra="forbid")

    present: bool = Field(description="true: add the tag; false: remove it")


PolicyKind = Literal["allow", "deny", "no_thing"]


class PolicyOut(FromView):
    """A tag rule: whether a tag is allowed, denied, or no thing in an archive."""

    name: str = Field(description="in lower case")
    kind: PolicyKind
    archive: str | None = Field(description="null: all archives")
    said_by: str
    said_at: datetime


class NewPolicy(BaseModel):
    """A new tag rule."""

    model_config = ConfigDict(extra="forbid")

    kind: PolicyKind = Field(
        description="`deny` hides the tag; once any tag is allowed, all others are hidden; `no_thing`: it is not "
        "looked for in pictures, unless by name. This stands beside the others"
    )


class MetadataOut(FromView):
    """What the file of an image says of it (EXIF, IPTC, XMP); null: nothing that can be read."""

    taken_at: LocalTime | None = Field(description="when it was taken, in the local time of the camera, without a zone")
    taken_offset: int | None = Field(description="minutes by which that is ahead of UTC; null: the file does not say")
    camera: str | None
    lens: str | None
    focal_mm: float | None = Field(description="focal length in millimetres")
    exposure_seconds: float | None
    f_number: float | None
    iso: int | None
    latitude: float | None = Field(description="degrees north")
    longitude: float | None = Field(description="degrees east")
    altitude_m: float | None = Field(description="metres above the sea")
    title: str | None
    description: str | None
    keywords: list[str] = Field(description="words that people wrote into the file; they are no tags")
    rating: int | None = Field(description="stars from 0 to 5; -1: rejected")
    creator: str | None
    rights: str | None
    sidecar: str | None = Field(default=None, description="key of the XMP sidecar that says some of this; null: none")


class KeywordOut(FromView):
    """A keyword that a person gave an image."""

    word: str = Field(description="as it was typed")
    said_by: str = Field(description="name of the author's token, or `local`")
    said_at: datetime
    act_id: int = Field(description="what gave it: `/v1/keywords/acts/{act_id}`, which can be undone")


class ImageOut(FromView):
    """Everything that is known about one image. `tags` has every stored score, assigned or not."""

    image_id: int
    key: str
    archive: str
    uri: str
    version: str
    size_bytes: int
    modified_at: datetime | None
    missing_since: datetime | None = Field(description="when a listing first did not find the object")
    width: int | None
    height: int | None
    caption: str | None
    captioner: str | None
    caption_contradicts: list[str] = Field(default=[], description=CONTRADICTS)
    generation_id: int | None
    model: str | None
    precision: str | None = Field(
        description="number format in which the tags were computed: `float32`, `float16`, `bfloat16`, or `certified`: "
        "bfloat16, and what came near to a threshold again in float32, so nearly always the tags of float32; null: not "
        "recorded"
    )
    tags: list[TagOut]
    history: list[HistoryOut]
    corrections: list[CorrectionOut]
    vectors: list[VectorOut]
    metadata: MetadataOut | None = Field(description="what the file says; null: it was not read yet")
    duplicates: int = Field(
        default=1, description="number of images with the same bytes, this one included, whose originals are there"
    )
    keywords: list[KeywordOut] = Field(
        default=[], description="words that people gave it; those in the file are in `metadata`"
    )
    near_copies: int = Field(default=1, description="number of images in its group of near copies, likewise")
    truncated: float | None = Field(
        default=None,
        description="share of the rows that could be read, of a file that is cut short; 1: all of them, but pages of "
        "the file behind number `pages` cannot be read; null: it is whole",
    )
    tiles: int | None = Field(default=None, description="parts in which a long picture was recognised; null: one")
    pages: int | None = Field(default=None, description="pages of the file, of which this is one; null: it has one")
    page: int | None = Field(default=None, description="number of the page, from 1; null: the file has one")
    file_key: str = Field(description="key of the file: that of the image, except of further pages")
    previous_page: int | None = Field(default=None, description="id of the image of the page before; null: none")
    next_page: int | None = Field(default=None, description="id of the image of the page behind; null: none")
    page_images: int = Field(default=1, description="how many pages of the file are images")


class UnfitnessOut(FromView):
    """Something that a worker cannot do now, and why."""

    kind: str = Field(description="`everything`, `model`, `archive`, or `index` (it cannot publish vectors)")
    name: str = Field(description="the model or captioner, or the archive's URI; otherwise empty")
    reason: str


class WorkerOut(FromView):
    """A worker process."""

    id: str
    host: str
    pid: int
    device: str
    model: str | None
    job_id: int | None
    images_per_second: float
    heartbeat_age_seconds: float
    is_alive: bool
    models: list[str] | None = Field(description="the models whose jobs it processes; null: any")
    runs: list[str] = Field(description="the stages of jobs that it does")
    weights: list[str] = Field(description="the models whose weights it has")
    unfit: list[UnfitnessOut] = Field(description="what it leaves to other workers until it is fixed")


class NewAddress(BaseModel):
    """The new address of an archive."""

    model_config = ConfigDict(extra="forbid")

    uri: str = Field(
        min_length=1, max_length=4_096, pattern=r"^[^\x00]*$", description="`s3://bucket/prefix` or a folder"
    )
    force: bool = Field(default=False, description="rename it even if none of its images is there yet")


class ArchiveOut(FromView):
    """An archive, and how many of its images are listed and recorded."""

    id: int
    uri: str
    images: int
    recorded: int
    missing: int = Field(description="keys that the last listing did not find")
    created_at: datetime


class IndexOut(FromView):
    """The published vector index of one generation, compared with the database."""

    generation_id: int
    stage: str = Field(
        description="`recognition`: the vectors of images; `crops`: those of regions; `look`, `siglip`, `clip` or "
        "`dino`: those of a space"
    )
    model: str
    manifest: int | None
    segments: int
    listed_segments: int = Field(
        description="large segments, which are searched with inverted lists; the others are scanned"
    )
    lowest_recall: float | None = Field(description="lowest measured recall@10 of a segment with lists")
    vectors_indexed: int
    vectors_stored: int
    delta: int
    bytes: int
    published_at: datetime | None


class DeletionOut(FromView):
    """The numbers of items that a deletion erased."""

    deletion_id: int
    images: int
    records: int
    vectors: int
    failures: int
    corrections: int
    features: int
    readings: int = Field(description="texts that were read in images")
    localizations: int = Field(description="lists of the regions that were found in images")
    crops: int = Field(description="vectors of regions")
    looks: int = Field(description="vectors of images in spaces such as `look`")
    metadata: int = Field(description="what the files of images say of them")
    keywords: int = Field(description="lists of the keywords that people gave an image")
    dataset_items: int = Field(description="pictures of versions of data sets")
    dataset_labels: int = Field(description="their labels there")
    dataset_reviews: int = Field(description="reviews of these")
    thumbnails: int

"""The JSON that the API promises, one model for each view. A field here is never renamed, only added."""

from datetime import datetime
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from storage.ledger.views import JobState, Priority

Item = TypeVar("Item")


class FromView(BaseModel):
    """A model that is filled from a view's attributes."""

    model_config = ConfigDict(from_attributes=True)


class PageOut(FromView, Generic[Item]):
    """Some items, and the cursor that asks for those after them (null: these were the last)."""

    items: list[Item]
    next_cursor: str | None = None


class TagOut(FromView):
    """A tag of an image; `threshold` is the one in force for this answer."""

    id: int
    name: str
    name_zh: str | None
    score: float = Field(description="0..1")
    threshold: float
    source: Literal["model", "person"] = Field(description="a person's tags are assigned whatever the threshold")


class WhyOut(FromView):
    """Why a search by text found an image."""

    similarity: float = Field(description="cosine of the text and the image")
    tags: list[int] = Field(description="ids of the image's tags that the text names")


class HitOut(FromView):
    """One image that a search found."""

    image_id: int
    key: str
    archive: str
    score: float = Field(
        description="the number that ranks: cosine similarity, to which a text that names tags adds a share of their "
        "scores; or the mean score of the tags asked for"
    )
    tags: list[TagOut]
    caption: str | None
    captioner: str | None = Field(description="who wrote the caption; `template`: it is composed from the tags")
    is_corrected: bool = Field(description="whether people changed its tags")
    generation_id: int
    width: int = Field(description="of the picture, in pixels")
    height: int
    missing: bool = Field(description="whether the last listing did not find the original")
    missing_since: datetime | None
    why: WhyOut | None = None


class NoteOut(FromView):
    """How a part of `q` was read, where that may not be what was meant."""

    text: str = Field(validation_alias="line", examples=['Searched as words: dog. Unknown tag "dog".'])
    suggestions: list[str] = Field(description="names of tags that may have been meant, the nearest first")


class HitsOut(PageOut[HitOut]):
    """Some hits."""

    total: int | None = Field(
        description="how many images match, on all pages together; null for a text while its end is far"
    )
    below: int | None = Field(
        default=None, description="how many more match the rest of the query but are too unlike the text, where known"
    )
    notes: list[NoteOut] = Field(default=[], description="how `q` was read where it was not read as tags and filters")


class FacetOut(FromView):
    """A tag and how many of the images that match have it."""

    id: int
    name: str
    name_zh: str | None
    count: int


class FacetsOut(PageOut[FacetOut]):
    """Some tags."""

    notes: list[NoteOut] = Field(default=[], description="how `q` was read where it was not read as tags and filters")


class HistoryOut(FromView):
    """One outcome in an image's life."""

    at: datetime
    job_id: int
    generation_id: int
    model: str
    outcome: Literal["recorded", "failed"]
    version: str
    error_class: str | None
    detail: str | None
    attempts: int | None


class CorrectionOut(FromView):
    """What a person said of a tag of an image."""

    name: str = Field(description="in lower case")
    is_present: bool
    said_by: str = Field(description="a token's name, or `local`")
    said_at: datetime


class Correction(BaseModel):
    """What is said of a tag."""

    model_config = ConfigDict(extra="forbid")

    present: bool = Field(description="whether the image has the tag, whatever the model says")


class PolicyOut(FromView):
    """Whether a tag counts in an archive."""

    name: str = Field(description="in lower case")
    kind: Literal["allow", "deny"]
    archive: str | None = Field(description="null: all archives")
    said_by: str
    said_at: datetime


class NewPolicy(BaseModel):
    """A rule that is wanted."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["allow", "deny"] = Field(description="with any tag allowed, only allowed ones count")


class ImageOut(FromView):
    """All that is known about one image; `tags` holds every stored score, assigned or not."""

    image_id: int
    key: str
    archive: str
    uri: str
    version: str
    size_bytes: int
    modified_at: datetime | None
    missing_since: datetime | None = Field(description="when a listing first did not find the object any more")
    width: int | None
    height: int | None
    caption: str | None
    captioner: str | None
    generation_id: int | None
    model: str | None
    tags: list[TagOut]
    history: list[HistoryOut]
    corrections: list[CorrectionOut]


class StageOut(FromView):
    """How busy one stage was."""

    stage: str
    seconds: float
    images_per_second: float | None


class JobOut(FromView):
    """A job and its counters: `listed = done + skipped + failed + pending`, always."""

    id: int
    source: str
    archive: str
    prefix: str
    model: str
    captioner: str
    features: str = Field(description="what is kept of each image: `none`, `global` or `tokens`")
    vocabulary: str | None = Field(description="other tags than the model's own")
    from_generation_id: int | None = Field(description="new tags are given to what it recorded; no archive is read")
    generation_id: int | None = Field(description="what the results belong to; null until a worker begins")
    priority: Priority
    state: JobState
    is_listing: bool
    is_over: bool
    listed: int
    done: int
    skipped: int
    failed: int
    pending: int
    images_per_second: float | None = Field(description="without pauses, waits and loading")
    eta_seconds: float | None = Field(description="null while nobody works on it")
    stages: list[StageOut]
    bottleneck: str | None
    workers: int
    note: str | None = Field(description="what it waits for or why it ended, in one line")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    active_seconds: float = Field(description="how long it was worked on, without pauses, waits and loading")
    webhook: str | None = Field(description="whether the webhook was told that it ended; null where it need not be")
    failures_by_class: dict[str, int]


class ReportOut(FromView):
    """What became of every key of a job; `lines + erased + folder_markers = listed`."""

    job_id: int
    source: str
    archive: str
    state: JobState
    is_final: bool
    model: str
    captioner: str
    generation_id: int | None
    fingerprint: str | None
    weights_sha256: str | None
    listed: int
    done: int
    skipped: int
    failed: int
    pending: int
    failures_by_class: dict[str, int]
    lines: int
    erased: int
    folder_markers: int
    first_key: str | None
    last_key: str | None
    sha256: str = Field(description="over `GET …/report/lines`")
    created_at: datetime
    finished_at: datetime | None


class FailureOut(FromView):
    """Why one image of a job has no record."""

    image_id: int
    key: str
    error_class: str
    detail: str
    attempts: int
    failed_at: datetime


class UnfitnessOut(FromView):
    """What a worker cannot do now, for a reason of its own."""

    kind: str = Field(description="`everything`, `model`, `archive`, or `index` (it cannot publish vectors)")
    name: str = Field(description="of the model or captioner, or the archive's URI; else empty")
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
    models: list[str] | None = Field(description="the models that it takes jobs for; null for any")
    unfit: list[UnfitnessOut] = Field(description="what it leaves to others until it is mended")


class NewAddress(BaseModel):
    """Where an archive is now."""

    model_config = ConfigDict(extra="forbid")

    uri: str = Field(
        min_length=1, max_length=4_096, pattern=r"^[^\x00]*$", description="`s3://bucket/prefix` or a folder"
    )
    force: bool = Field(default=False, description="even if none of its images is there yet")


class ArchiveOut(FromView):
    """An archive and how much of it is listed and recorded."""

    id: int
    uri: str
    images: int
    recorded: int
    missing: int = Field(description="keys that the last listing did not find any more")
    created_at: datetime


class IndexOut(FromView):
    """The published vector index of one generation, against the database."""

    generation_id: int
    model: str
    manifest: int | None
    segments: int
    listed_segments: int = Field(description="large ones, searched by way of lists; the others are scanned")
    lowest_recall: float | None = Field(description="least measured share of the nearest ten in a listed segment")
    vectors_indexed: int
    vectors_stored: int
    delta: int
    bytes: int
    published_at: datetime | None


class DeletionOut(FromView):
    """What a delete erased."""

    deletion_id: int
    images: int
    records: int
    vectors: int
    failures: int
    corrections: int
    features: int
    thumbnails: int


class NewJob(BaseModel):
    """The job that is wanted."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(
        min_length=1,
        max_length=4_096,
        pattern=r"^[^\x00]*$",
        description="`s3://bucket/prefix`, a folder, or a manifest",
        examples=["s3://photos/2024/"],
    )
    model: Literal["lite", "ram", "ram_plus"] | None = Field(None, description="default: the server's")
    caption: bool | None = Field(None, description="default: the server's")
    priority: Priority = "normal"

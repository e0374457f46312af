"""The JSON of the API, with one model for each view. Fields may be added, but are never renamed."""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from storage.ledger.views import JobState, Priority
from workers.messages import MODEL_NAME

CONTRADICTS = "names of the tags that a person removed, but that the caption of a model names; do not take it for true"

Item = TypeVar("Item")


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
    duplicates: int = Field(
        default=1, description="number of images with the same bytes, this one included, whose originals are there"
    )


class StageOut(FromView):
    """The load of one stage."""

    stage: str
    seconds: float
    images_per_second: float | None


class JobOut(FromView):
    """A job and its counters: `listed = done + skipped + failed + pending`, always."""

    id: int
    source: str
    archive: str
    prefix: str
    stage: str = Field(description="what it does with the images: `recognition`, or a further stage such as `text`")
    with_job: int | None = Field(description="the job whose listing it follows; null if it lists by itself")
    followers: list[int] = Field(description="the jobs of further stages that were requested together with it")
    query: str | None = Field(description="the search whose hits it works on; null: all images of its source")
    options: dict[str, Any] = Field(description="what a further stage was asked for, such as the tags to look for")
    model: str
    captioner: str
    features: str = Field(
        description="features that are kept of each image: `none`, `global`, `tokens`, `pooled`, or `auto`: pooled "
        "ones of those that are recognised, while images that were recognised without them stay as they are"
    )
    vocabulary: str | None = Field(description="the vocabulary, if it is not the model's own")
    from_generation_id: int | None = Field(description="the generation that this job retags; null for other jobs")
    generation_id: int | None = Field(description="the generation of the results; null until a worker starts")
    priority: Priority
    state: JobState
    is_listing: bool
    is_over: bool
    listed: int
    done: int
    skipped: int
    failed: int
    copied: int = Field(
        description="how many of the done images took over the results of one with the same bytes; counted when their "
        "shard ends"
    )
    pending: int
    images_per_second: float | None = Field(description="without pauses, waiting and loading of models")
    eta_seconds: float | None = Field(description="null while no worker works on it")
    stages: list[StageOut]
    bottleneck: str | None
    workers: int
    note: str | None = Field(description="what the job waits for, or why it ended, in one line")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    active_seconds: float = Field(description="processing time, without pauses, waiting and loading of models")
    webhook: str | None = Field(description="state of the webhook delivery for its end; null if there is none")
    failures_by_class: dict[str, int] = Field(description="of a single job; empty in a list of jobs")


class ReportOut(FromView):
    """The report of a job's keys. `lines + erased + folder_markers = listed`."""

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
    sha256: str = Field(description="of the body of `GET …/report/lines`")
    created_at: datetime
    finished_at: datetime | None


class FailureOut(FromView):
    """A failed image of a job, and its reason."""

    image_id: int
    key: str
    error_class: str
    detail: str
    attempts: int
    failed_at: datetime


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
    dataset_items: int = Field(description="pictures of versions of data sets")
    dataset_labels: int = Field(description="their labels there")
    dataset_reviews: int = Field(description="reviews of these")
    thumbnails: int


class NewJob(BaseModel):
    """A new job."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(
        min_length=1,
        max_length=4_096,
        pattern=r"^[^\x00]*$",
        description="`s3://bucket/prefix`, a folder, or a manifest",
        examples=["s3://photos/2024/"],
    )
    model: str | None = Field(
        None,
        pattern=f"^{MODEL_NAME}$",
        description="`lite`, `ram`, `ram_plus`, or a trained one such as `ram_plus@birds`; default: the server's",
    )
    caption: bool | None = Field(None, description="default: the server's")
    stages: list[Literal["text", "look", "siglip", "clip", "dino"]] = Field(
        [],
        max_length=8,
        description="further stages: `text` reads the text in the images, the others make vectors of them; each is a "
        "job of its own",
    )
    priority: Priority = "normal"


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

    @property
    def asked(self) -> dict[str, Any]:
        """The options of the jobs."""
        return {"tags": self.tags} if self.tags else {}

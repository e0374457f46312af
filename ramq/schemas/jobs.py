"""The API's types for jobs."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ramq.schemas.views import FromView
from storage.ledger.views import JobState, Priority
from storage.objects.ignoring import MAX_PATTERN, MAX_PATTERNS, Selection
from workers.messages import MODEL_NAME

Pattern = Annotated[str, Field(min_length=1, max_length=MAX_PATTERN, pattern=r"^[^\x00\n]*$")]


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
    options: dict[str, Any] = Field(
        description="what a further stage was asked for, such as the tags to look for; `pages` of recognition: each "
        "page of a file is an image of its own"
    )
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
    listers: int = Field(description="how many workers list its keys at this moment, each a range of them")
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
    ignored: int = Field(description="keys that were left out; they are not part of `listed`")
    ignored_by_reason: dict[str, int] = Field(
        description="reasons: `default` (the list of known junk), `sidecar`, `film`, `pattern`, `ramqignore`"
    )
    include: list[str] = Field(description="patterns as in .gitignore: only these keys are listed; empty: all")
    exclude: list[str] = Field(description="patterns of keys that are left out")
    defaults: bool = Field(description="whether known junk, sidecars and films are left out")
    images_per_second: float | None = Field(
        description="without pauses, waiting and loading of models; copied images count"
    )
    eta_seconds: float | None = Field(
        description="at this rate, or, if images were copied, at the mean rate of the job so far, since copies come in "
        "stretches; null while no worker works on it"
    )
    stages: list[StageOut]
    bottleneck: str | None
    workers: int
    note: str | None = Field(description="what the job waits for, or why it ended, in one line")
    said_by: str | None = Field(description="name of who started it; null: this was not noted then")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    active_seconds: float = Field(description="processing time, without pauses, waiting and loading of models")
    webhook: str | None = Field(description="state of the webhook delivery for its end; null if there is none")
    failures_by_class: dict[str, int] = Field(description="of a single job; empty in a list of jobs")
    watch: int | None = Field(description="the watch that began it; null: somebody enqueued it")
    of_keys: bool = Field(description="whether it looks only at keys that events named")


class ReportOut(FromView):
    """The report of a job's keys. `lines + erased + folder_markers = listed + ignored`."""

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
    ignored: int
    ignored_by_reason: dict[str, int]
    failures_by_class: dict[str, int]
    truncated: int = Field(default=0, description="done images whose file is cut short: read as far as it goes")
    tiled: int = Field(default=0, description="done images that are long: recognised in parts")
    first_pages: int = Field(default=0, description="done images of a file with several pages: only the first was read")
    pages_left_out: int = Field(
        default=0, description="pages of files that have more than `RAMQ_PAGES_MOST`, of a job with `pages`"
    )
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
    include: list[Pattern] = Field(
        [],
        max_length=MAX_PATTERNS,
        description="patterns as in .gitignore: only keys that match one are listed; empty: all",
        examples=[["/2024/"]],
    )
    exclude: list[Pattern] = Field(
        [], max_length=MAX_PATTERNS, description="patterns of keys that are left out", examples=[["*.gif"]]
    )
    defaults: bool = Field(True, description="leave out known junk, sidecars and films; of no effect for a manifest")
    pages: bool = Field(False, description="each page of a TIFF or PDF file is an image of its own")

    @property
    def selection(self) -> Selection:
        """Which keys are listed."""
        return Selection(tuple(self.include), tuple(self.exclude), has_defaults=self.defaults)

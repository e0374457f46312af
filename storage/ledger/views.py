"""Jobs, their failures and reports, as the command line, the API and the page show them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from datetime import datetime

JobState = Literal["running", "paused", "done", "cancelled", "failed"]
Priority = Literal["low", "normal", "high"]
PRIORITIES: dict[Priority, int] = {"low": -10, "normal": 0, "high": 10}
PRIORITY_NAMES = {number: name for name, number in PRIORITIES.items()}


@dataclass(frozen=True, slots=True)
class StageView:
    """Load of one stage: busy seconds of one full-time worker of the stage, and the rate that it could sustain."""

    stage: str
    seconds: float
    images_per_second: float | None


PAGES = "pages"
"""Option of a job: whether each page of a file is an image of its own (``storage.objects.pages``)."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job and its counters: ``listed == done + skipped + failed + pending``, read in one snapshot.

    Attributes:
        stage: what it does with the images: ``recognition``, or a further stage such as ``text``.
        with_job: the job whose listing it follows, since both were requested together; None: it lists by itself.
        followers: the jobs of further stages that follow its listing.
        query: the search whose hits it works on; None: all images of its source.
        options: what a further stage was asked for, such as the tags to look for; of recognition, ``PAGES``.
        features: which features it stores of each image: ``none``, ``global``, ``tokens``, ``pooled`` or ``auto``.
        vocabulary: name of a vocabulary other than the model's own.
        from_generation_id: it computes new tags for the records of that generation, without reading the archive.
        generation_id: the generation of its results; None until a worker begins it.
        listers: how many workers list its keys at this moment, each a range of them.
        ignored: how many keys it left out. They are not part of ``listed``.
        ignored_by_reason: the same by reason; see ``storage.objects.ignoring.REASONS``.
        include: patterns of the keys that it lists; empty: all.
        exclude: patterns of keys that it leaves out.
        defaults: whether it leaves out the keys of the default list.
        copied: how many of the done images took over the results of one with the same bytes; counted when their shard
            ends.
        active_seconds: how long it was worked on, without pauses, waits and loading.
        note: what it waits for, or why it ended.
        said_by: who started it; None: this was not noted then.
        webhook: state of the webhook delivery about its end; None if there is none.
        watch: the watch that began it; None: somebody enqueued it.
        of_keys: it looks only at keys that events named.
    """

    id: int
    source: str
    archive: str
    prefix: str
    stage: str
    with_job: int | None
    followers: list[int]
    query: str | None
    options: dict[str, Any]
    model: str
    captioner: str
    features: str
    vocabulary: str | None
    from_generation_id: int | None
    generation_id: int | None
    priority: Priority
    state: JobState
    is_listing: bool
    listers: int
    listed: int
    done: int
    skipped: int
    failed: int
    copied: int
    pending: int
    images_per_second: float | None
    eta_seconds: float | None
    stages: list[StageView]
    bottleneck: str | None
    workers: int
    note: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    active_seconds: float
    webhook: str | None
    ignored: int = 0
    ignored_by_reason: dict[str, int] = field(default_factory=dict)
    include: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    defaults: bool = False
    said_by: str | None = None
    failures_by_class: dict[str, int] = field(default_factory=dict)
    watch: int | None = None
    of_keys: bool = False

    @property
    def is_over(self) -> bool:
        """Whether the job has ended: it only continues if somebody resumes it."""
        return self.state in {"done", "cancelled", "failed"}

    @property
    def has_no_work(self) -> bool:
        """Whether it only has to be ended: it runs, and all its images are listed and done."""
        return self.state == "running" and not self.is_listing and not self.pending


@dataclass(frozen=True, slots=True)
class FailureView:
    """Why one image of a job has no record."""

    image_id: int
    key: str
    error_class: str
    detail: str
    attempts: int
    failed_at: datetime


@dataclass(frozen=True, slots=True)
class JobReport:
    """The outcome of every key of a job. Counters are as in ``JobView``. ``is_final`` is true once the job is over.

    Attributes:
        ignored: number of keys that were left out; they are not part of ``listed``.
        ignored_by_reason: the same by reason.
        truncated: done images whose file is cut short, and was read as far as it goes.
        tiled: done images that are long, and were recognised in parts.
        first_pages: done images of a file with several pages, of which the first was read.
        pages_left_out: pages of files that have more than become images, if the job makes images of pages.
        lines: number of keys in the report; ``lines + erased + folder_markers == listed + ignored``.
        erased: number of images that were deleted since, with their key.
        folder_markers: number of listed keys that stand for a folder.
        sha256: over the lines, sorted by key.
    """

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
    truncated: int
    tiled: int
    first_pages: int
    pages_left_out: int
    lines: int
    erased: int
    folder_markers: int
    first_key: str | None
    last_key: str | None
    sha256: str
    created_at: datetime
    finished_at: datetime | None

"""What people are shown: the command line, the API and the page all print these, so that they always agree."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from datetime import datetime

    from storage.language.reading import Note
    from storage.language.tree import Expression

Item = TypeVar("Item")

JobState = Literal["running", "paused", "done", "cancelled", "failed"]
Priority = Literal["low", "normal", "high"]
PRIORITIES: dict[Priority, int] = {"low": -10, "normal": 0, "high": 10}


@dataclass(frozen=True, slots=True)
class TagView:
    """A tag of an image. ``score`` is in 0..1; ``threshold`` is the one in force for this answer.

    A tag that a person added has the source ``person`` and the score 1, and is assigned whatever the threshold.
    """

    id: int
    name: str
    name_zh: str | None
    score: float
    threshold: float
    source: Literal["model", "person"] = "model"

    @property
    def is_assigned(self) -> bool:
        """Whether the image has the tag, for this answer."""
        return self.source == "person" or self.score > self.threshold


@dataclass(frozen=True, slots=True)
class CorrectionView:
    """What a person said of a tag of an image: whether it has it. ``said_by`` is a token's name, or ``local``."""

    name: str
    is_present: bool
    said_by: str
    said_at: datetime


@dataclass(frozen=True, slots=True)
class PolicyView:
    """That a tag counts in an archive (None: in all) and others do not (``allow``), or that it does not (``deny``)."""

    name: str
    kind: str
    archive: str | None
    said_by: str
    said_at: datetime


@dataclass(frozen=True, slots=True)
class Why:
    """Why a search by text found an image: the cosine of their vectors, and which tags of the image the text names.

    The score of the hit is the cosine and, of an image with all the tags that the text names, a share of theirs.
    """

    similarity: float
    tags: list[int]


@dataclass(frozen=True, slots=True)
class Hit:
    """One image that a search found.

    ``score`` is the cosine similarity for text and similarity searches, else the mean score of the tags asked for.
    ``tags`` are the assigned ones, highest score first. ``width`` and ``height`` are the picture's, in pixels.
    ``missing_since`` is when a listing first did not find the original any more. ``captioner`` is who wrote the
    caption; ``is_corrected`` says whether its tags are not what the model gave.
    """

    image_id: int
    key: str
    archive: str
    score: float
    tags: list[TagView]
    caption: str | None
    generation_id: int
    width: int
    height: int
    missing_since: datetime | None = None
    why: Why | None = None
    captioner: str | None = None
    is_corrected: bool = False

    @property
    def missing(self) -> bool:
        """Whether the last listing did not find the original."""
        return self.missing_since is not None


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items, and the cursor that asks for those after them (None: these were the last).

    ``total`` is how many there are on all pages together; None where that is not known. ``below`` is how many more
    match but are less like a text than its ``relevance`` asks for; None without a text, or far from the list's end.
    ``notes`` say how the text of a search was read where that may not be what was meant.
    """

    items: list[Item]
    next_cursor: str | None = None
    total: int | None = None
    below: int | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Facet:
    """A tag and how many of the images that match have it assigned."""

    id: int
    name: str
    name_zh: str | None
    count: int


@dataclass(frozen=True, slots=True)
class HistoryView:
    """One outcome in an image's life: a record or a failure, by which job and generation."""

    at: datetime
    job_id: int
    generation_id: int
    model: str
    outcome: Literal["recorded", "failed"]
    version: str
    error_class: str | None = None
    detail: str | None = None
    attempts: int | None = None


@dataclass(frozen=True, slots=True)
class ImageView:
    """All that is known about one image. ``tags`` holds every stored score, assigned or not.

    What people said of its tags is in ``corrections``: tags that they removed are not among ``tags``.
    """

    image_id: int
    key: str
    archive: str
    uri: str
    version: str
    size_bytes: int
    modified_at: datetime | None
    missing_since: datetime | None
    width: int | None
    height: int | None
    caption: str | None
    captioner: str | None
    generation_id: int | None
    model: str | None
    tags: list[TagView]
    history: list[HistoryView]
    corrections: list[CorrectionView]
    is_corrected: bool = False


@dataclass(frozen=True, slots=True)
class StageView:
    """How busy one stage was: seconds of one full-time worker of that stage, and the rate that it could sustain."""

    stage: str
    seconds: float
    images_per_second: float | None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job and its books: ``listed == done + skipped + failed + pending``, read in one snapshot.

    Attributes:
        features: what it keeps of each image: ``none``, ``global`` or ``tokens``.
        vocabulary: other tags than the model's own, by their name.
        from_generation_id: where it gives new tags to what that generation recorded, without reading the archive.
        generation_id: what its results belong to; None until a worker begins it.
        active_seconds: how long it was worked on, without pauses, waits and loading.
        note: what it waits for or why it ended.
        webhook: whether the webhook was told that it ended; None where it need not be.
    """

    id: int
    source: str
    archive: str
    prefix: str
    model: str
    captioner: str
    features: str
    vocabulary: str | None
    from_generation_id: int | None
    generation_id: int | None
    priority: Priority
    state: JobState
    is_listing: bool
    listed: int
    done: int
    skipped: int
    failed: int
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
    failures_by_class: dict[str, int] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to this job by itself."""
        return self.state in {"done", "cancelled", "failed"}


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
    """What became of every key of a job. The books are as in ``JobView``; ``is_final`` once the job is over.

    Attributes:
        lines: keys that the report can name; ``lines + erased + folder_markers == listed``.
        erased: images whose results were deleted since, with their key.
        folder_markers: listed keys that stand for a folder.
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
    failures_by_class: dict[str, int]
    lines: int
    erased: int
    folder_markers: int
    first_key: str | None
    last_key: str | None
    sha256: str
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class ArchiveView:
    """An archive: how many keys of it were listed, and how many a later listing did not find.

    ``recorded`` counts the images with a record of the generation that serves search.
    """

    id: int
    uri: str
    images: int
    recorded: int
    missing: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class GenerationView:
    """What made a set of results, and whether search uses it unless told otherwise."""

    id: int
    model: str
    weights_sha256: str
    preprocessing: str
    vector_kind: str
    vector_size: int
    vocabulary: str
    tags: int
    is_default: bool
    created_at: datetime
    served_until: datetime | None


@dataclass(frozen=True, slots=True)
class IndexView:
    """The published index of one generation, against the database.

    Attributes:
        listed_segments: those large enough to be searched by way of lists; the others are scanned.
        lowest_recall: the least share of the nearest ten that was measured in any of them; None if all are scanned.
    """

    generation_id: int
    model: str
    manifest: int | None
    segments: int
    listed_segments: int
    lowest_recall: float | None
    vectors_indexed: int
    vectors_stored: int
    delta: int
    bytes: int
    published_at: datetime | None


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What to look for. Empty parts do not narrow.

    Attributes:
        text: free text, compared with the images' vectors.
        like: image id whose neighbours are wanted.
        tags, any_tags, not_tags: names (English or Chinese) or ids; all, at least one, none of them.
        archive: the URI, or the id, of an archive; a URI below an archive narrows to that prefix.
        threshold: one threshold for every tag, in 0..1, instead of each tag's own.
        relevance: how near to the text an image must be: nearer than this share (0 to 1) of pairs of a picture and
            something else; 0: however far; None: ``ranking.DEFAULT_RELEVANCE``, or 0 where tags are asked for as well.
        cursor: ``next_cursor`` of the page before.
        where: what an image must also meet, from the query language.
        generation: the generation to be searched, instead of the one that serves.
        read_for: the generation that the query was read for. It is searched even if another one serves by now, since
            the text's vector and the names of tags are of this one.
    """

    text: str | None = None
    like: int | None = None
    tags: tuple[str, ...] = ()
    any_tags: tuple[str, ...] = ()
    not_tags: tuple[str, ...] = ()
    archive: str | None = None
    job: int | None = None
    prefix: str | None = None
    threshold: float | None = None
    relevance: float | None = None
    limit: int = 20
    cursor: str | None = None
    where: Expression | None = None
    generation: int | None = None
    read_for: int | None = None
    notes: tuple[Note, ...] = ()

    def after(self, cursor: str | None) -> SearchQuery:
        """Return the query for the page that begins at ``cursor``."""
        return replace(self, cursor=cursor)

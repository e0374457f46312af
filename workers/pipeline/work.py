"""What moves through the pipeline: images of leased shards, and what each stage adds to them."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ram_core.opening.pages import may_have_pages
from ram_core.picture_hashes import PictureHashes, pixels_of, shape_of
from storage import traces
from storage.ledger import claims, shards
from storage.ledger.views import PAGES
from storage.objects.pages import number_of
from storage.results.openings import USUAL, OpeningView
from storage.tables import RECOGNITION
from workers.pipeline.retry import Action, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from ram_core.metadata import FileFacts
    from ram_core.pictures import Decoded
    from ram_core.recognition import Prediction
    from storage.ledger.claims import ClaimedShard
    from storage.objects.base import ObjectStore
    from storage.results.features import Kept
    from storage.results.images import ImageKey
    from storage.results.same_bytes import SameBytes
    from workers.pipeline.paged_files import SharedFile
    from workers.stages import StageModel

FAILURES_IN_A_ROW = 16
"""With this many transient failures in a row and no success, the store is taken to be down: the shard has to wait."""


@dataclass(frozen=True, slots=True)
class ImageFailure:
    """Why an image has no result (yet).

    Attributes:
        is_transient: the shard has to be tried again; if False, this is the image's final outcome.
        code: stable name of the failure class.
        about_content: whether the bytes are to blame.
        detail: one line for people.
    """

    is_transient: bool
    code: str
    about_content: bool
    detail: str

    @classmethod
    def of(cls, error: Exception) -> ImageFailure:
        """Describe an error that concerns one image."""
        judged = verdict(error)
        text = str(error).strip().splitlines()
        detail = text[0] if text else type(error).__name__
        if judged.code == "unexpected":
            detail = f"{type(error).__name__}: {detail}"
        return cls(judged.action is Action.RETRY, judged.code, judged.about_content, detail)


@dataclass(slots=True, eq=False)
class Work:
    """One image in the pipeline, for one stage of its job. Each step fills in its part. A failure ends it early.

    ``others`` are the same image for other stages: it is fetched and decoded once for all of them.
    """

    lease: Lease
    position: int
    image: ImageKey
    version: str
    kept: Kept | None = None
    feature: NDArray[Any] | None = None  # (D,) vector or (R,) packed tokens, if new tags are computed from them
    body: bytes | memoryview | None = None
    file: SharedFile | None = None  # with the body, if the image is one page of it
    same: SameBytes | None = None  # the record of an image with the same bytes, which is taken over
    copied_features: NDArray[Any] | None = None  # those of the other image, if the job stores them
    sha256: bytes | None = None  # of the body, or of that from which the stored features are
    reserved_bytes: int = 0
    pixels: NDArray[np.uint8] | None = None  # (S, S, 3), or with tiles below it: see ``ram_core.tiling``
    width: int = 0
    height: int = 0
    hashes: PictureHashes | None = None  # of what it shows
    opening: OpeningView = USUAL  # how the picture was read
    facts: FileFacts | None = None  # what the file says, of one of the works on an image
    prediction: Prediction | None = None
    asked: Any = None  # what a stage other than recognition shall look for
    result: Any = None  # what it found
    precision: str | None = None  # number format of the tags
    caption: str | None = None
    captioner: str | None = None  # who wrote it, if not the captioner of the job
    failure: ImageFailure | None = None
    others: list[Work] = field(default_factory=list)

    def take(self, decoded: Decoded) -> None:
        """Fill in the pixels of the image, its size, and how it was read."""
        self.pixels, self.width, self.height = decoded.pixels, decoded.width, decoded.height
        rows, columns, _ = decoded.pixels.shape
        is_tiled = not self.lease.is_further and rows > columns  # see ``ram_core.tiling``
        self.opening = OpeningView(
            share=decoded.share,
            tiles=rows // columns - 1 if is_tiled else None,
            pages=decoded.pages if decoded.pages > 1 else None,
        )

    @property
    def page(self) -> int:
        """The number of the page that the image is, from 1."""
        return number_of(self.version)

    @property
    def registers_pages(self) -> bool:
        """Whether the further pages of its file become images of their own."""
        shard = self.lease.shard
        return bool(shard.options.get(PAGES)) and not self.lease.is_further and self.page == 1

    def counts_pages(self, body: bytes | memoryview) -> bool:
        """Tell whether the pages of its file, which has this body, are to be counted: by who opens it."""
        return self.registers_pages and may_have_pages(body)

    def count_pages(self, pages: int) -> None:
        """Note how many pages the file has, also if it is one: then it was counted."""
        self.opening = replace(self.opening, pages=pages)

    def hand_to(self, other: Work) -> None:
        """Give another work on the same image what was fetched."""
        other.body, other.reserved_bytes, other.file = self.body, self.reserved_bytes, self.file
        self.body, self.reserved_bytes, self.file = None, 0, None

    @property
    def together(self) -> list[Work]:
        """This and the others."""
        return [self, *self.others]


def combined(works: Iterable[Work]) -> Work | None:
    """Return the first of these as one with all the rest as its ``others``; None if there is none."""
    every = list(works)
    if not every:
        return None
    every[0].others = every[1:]
    return every[0]


def keep_facts(works: Iterable[Work], facts: FileFacts) -> None:
    """Give what a file says to one of the works on its image, with which it is written: if possible to recognition."""
    min(works, key=lambda work: work.lease.is_further).facts = facts


def hash_picture(works: Iterable[Work]) -> None:
    """Hash what an image shows that was decoded for these works, and give it to all of them.

    What was prepared for recognition is taken if possible: it is small, and alike for all images.
    """
    decoded = [work for work in works if work.pixels is not None and work.width]
    if not decoded:
        return
    best = min(decoded, key=lambda work: work.lease.is_further)
    assert best.pixels is not None
    whole = best.pixels
    if not best.lease.is_further:
        whole = whole[: whole.shape[1]]  # without its tiles
    pixels = None if best.lease.is_further else pixels_of(whole, best.width, best.height)
    hashes = PictureHashes(shape_of(whole), pixels)
    for work in decoded:
        work.hashes = hashes


@dataclass(slots=True, eq=False)
class Batch:
    """Images of one shard that are inferred and written together. Failed ones are only written.

    Attributes:
        lease: of the shard.
        works: the images.
        thresholds: (T,) of the model's tags, from when the batch is given to it. So writing loads no model.
        stage: the model instead, for a stage other than recognition.
    """

    lease: Lease
    works: list[Work] = field(default_factory=list)
    thresholds: NDArray[np.float32] | None = None
    stage: StageModel | None = None

    @property
    def sound(self) -> list[Work]:
        """The images without a failure that a model looks at: they have pixels, stored features or results."""
        return [work for work in self.works if work.failure is None and work.same is None]


class Lease:
    """A shard while this worker holds it: its outcomes, and how many of its images are still in the pipeline.

    Without a ``store`` no object is fetched: new tags are computed from the stored features of the images.
    """

    def __init__(self, shard: ClaimedShard, store: ObjectStore | None) -> None:
        self.shard = shard
        self.store = store
        self.outcomes = bytearray(shard.outcomes)
        self.goes_with = shard.id
        """The shard whose images are fetched for this one too; its own id if it is the one."""
        self.copied: set[int] = set()
        """Positions that took over the results of an image with the same bytes, by this holder."""
        self.transient_failures: list[ImageFailure] = []
        self.stage_seconds: defaultdict[str, float] = defaultdict(float)
        self.charge = shard.charge
        """What the user was charged for it until now."""
        self.charging = threading.Lock()
        self.worked_seconds = self.counted_seconds = 0.0
        """What ``WorkedTime`` gave it of the worker's time, and how long steps were busy with it at that time."""
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._left = self.outcomes.count(shards.PENDING)
        self._at_batcher = self._left
        self._failures_in_a_row = 0
        self._is_over = False
        self.began_at = self.progress_at = time.monotonic()
        self.span = traces.begin("shard", shard.trace, {"ramq.job.id": shard.job_id, "ramq.shard.id": shard.id})
        """What is done with it is below this span. None: it is not recorded."""

    @property
    def is_further(self) -> bool:
        """Whether it is a shard of a stage other than recognition."""
        return self.shard.stage != RECOGNITION

    @property
    def labels(self) -> dict[str, int | str]:
        """Fields of every log line about this shard. Without a trace of its own it has that of its job's request."""
        trace = traces.labels(self.shard.trace or self.shard.job_trace)
        return {"job": self.shard.job_id, "shard": self.shard.id, **trace}

    @property
    def is_over(self) -> bool:
        """Whether the lease was lost or has ended. Its images that are still in the pipeline are then dropped."""
        return self._is_over

    @property
    def pending(self) -> list[int]:
        """Positions without an outcome."""
        return [position for position, outcome in enumerate(self.outcomes) if outcome == shards.PENDING]

    @property
    def is_careful(self) -> bool:
        """Whether images are tried one by one, because earlier holders of this shard died without writing anything."""
        return self.shard.attempts >= claims.CAREFUL_AFTER or self.shard.probe is not None

    @property
    def is_store_down(self) -> bool:
        """Whether the store looks down. Trying more images would then be a waste."""
        return self._failures_in_a_row >= FAILURES_IN_A_ROW

    def note_fetch(self, failure: ImageFailure | None) -> None:
        """Count transient failures in a row."""
        with self._lock:
            self._failures_in_a_row = self._failures_in_a_row + 1 if failure and failure.is_transient else 0

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Add to the time that a stage spent on this shard."""
        with self._lock:
            self.stage_seconds[stage] += seconds

    @property
    def busy_seconds(self) -> float:
        """How long all stages together were busy with this shard."""
        with self._lock:
            return sum(self.stage_seconds.values())

    @property
    def settled(self) -> int:
        """How many of its images got an outcome from this holder."""
        return self.shard.outcomes.count(shards.PENDING) - self.outcomes.count(shards.PENDING)

    def arrived(self) -> bool:
        """Record that one more image reached the batcher. Return True if it was the last one."""
        with self._lock:
            self._at_batcher -= 1
            return self._at_batcher == 0

    def settle(self, count: int) -> bool:
        """Record that ``count`` images were written or postponed. Return True if none is left in the pipeline."""
        with self._settled:
            self._left -= count
            self.progress_at = time.monotonic()
            self._settled.notify_all()
            return self._left == 0

    def begin(self) -> None:
        """Record that work on the images begins now: the model is loaded."""
        self.began_at = self.progress_at = time.monotonic()

    def end(self) -> None:
        """Mark the lease as over."""
        with self._settled:
            self._is_over = True
            self._settled.notify_all()

    def wait_until_left(self, count: int, timeout_seconds: float) -> bool:
        """Wait until at most ``count`` images are left or the lease is over. Return False on a timeout."""
        with self._settled:
            return self._settled.wait_for(lambda: self._is_over or self._left <= count, timeout_seconds)

    @property
    def left(self) -> int:
        """Number of images that are neither written nor postponed."""
        return self._left


SUSPECT_DEATHS = 3
"""An image is given up after this many workers died while processing it alone. One or two deaths may be chance."""

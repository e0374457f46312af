"""What moves through the pipeline: images of leased shards, and what each stage found out about them."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from storage.ledger import shards
from workers.pipeline.retry import Action, verdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ram_core.recognition import Prediction
    from storage.ledger.shards import ClaimedShard
    from storage.objects.base import ObjectStore
    from storage.results.features import Kept
    from storage.results.images import ImageKey

FAILURES_IN_A_ROW = 16
"""With this many transient failures in a row and no success, the store is down: the rest of the shard can wait."""


@dataclass(frozen=True, slots=True)
class ImageFailure:
    """Why an image has no result (yet).

    Attributes:
        is_transient: the shard is to be tried again; otherwise this is the image's outcome.
        code: stable name of the class.
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
    """One image on its way. Each stage fills in its part; a failure ends it early."""

    lease: Lease
    position: int
    image: ImageKey
    version: str
    kept: Kept | None = None
    feature: NDArray[Any] | None = None  # (D,) vector or (R,) packed tokens, where new tags are given from them
    body: bytes | memoryview | None = None
    reserved_bytes: int = 0
    pixels: NDArray[np.uint8] | None = None  # (S, S, 3)
    width: int = 0
    height: int = 0
    prediction: Prediction | None = None
    caption: str | None = None
    captioner: str | None = None  # who wrote it, where that is not what the job says
    failure: ImageFailure | None = None


@dataclass(slots=True, eq=False)
class Batch:
    """Images of one shard that are inferred and written together; failed ones are only written."""

    lease: Lease
    works: list[Work] = field(default_factory=list)

    @property
    def sound(self) -> list[Work]:
        """The images that have pixels, or results, and no trouble."""
        return [work for work in self.works if work.failure is None]


class Lease:
    """A shard while this worker holds it: its outcomes so far, and how much of it is still on the way.

    Without a ``store`` nothing is fetched: new tags are given from what was kept of the images.
    """

    def __init__(self, shard: ClaimedShard, store: ObjectStore | None) -> None:
        self.shard = shard
        self.store = store
        self.outcomes = bytearray(shard.outcomes)
        self.troubles: list[ImageFailure] = []
        self.stage_seconds: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._left = self.outcomes.count(shards.PENDING)
        self._at_batcher = self._left
        self._failures_in_a_row = 0
        self._is_over = False
        self.began_at = self.progress_at = time.monotonic()

    @property
    def labels(self) -> dict[str, int]:
        """What every log line about this shard carries."""
        return {"job": self.shard.job_id, "shard": self.shard.id}

    @property
    def is_over(self) -> bool:
        """Whether the lease was lost or ended: what is still on the way is dropped."""
        return self._is_over

    @property
    def pending(self) -> list[int]:
        """Positions without an outcome."""
        return [position for position, outcome in enumerate(self.outcomes) if outcome == shards.PENDING]

    @property
    def is_careful(self) -> bool:
        """Whether images are tried one by one, because holders of this shard died without having written anything."""
        return self.shard.attempts >= CAREFUL_AFTER or self.shard.probe is not None

    @property
    def is_troubled(self) -> bool:
        """Whether the surroundings look down, so that trying more images now is a waste."""
        return self._failures_in_a_row >= FAILURES_IN_A_ROW

    def note_fetch(self, failure: ImageFailure | None) -> None:
        """Count transient failures in a row."""
        with self._lock:
            self._failures_in_a_row = self._failures_in_a_row + 1 if failure and failure.is_transient else 0

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Add to the time that this shard took in a stage."""
        with self._lock:
            self.stage_seconds[stage] += seconds

    def arrived(self) -> bool:
        """Note that one more image reached the batcher; True when it was the last."""
        with self._lock:
            self._at_batcher -= 1
            return self._at_batcher == 0

    def settle(self, count: int) -> bool:
        """Note that ``count`` images were written or put off; True when none is on the way any more."""
        with self._settled:
            self._left -= count
            self.progress_at = time.monotonic()
            self._settled.notify_all()
            return self._left == 0

    def begin(self) -> None:
        """Note that work on the images begins now: the model is loaded."""
        self.began_at = self.progress_at = time.monotonic()

    def end(self) -> None:
        """Mark the lease as over."""
        with self._settled:
            self._is_over = True
            self._settled.notify_all()

    def wait_until_left(self, count: int, timeout_seconds: float) -> bool:
        """Wait until at most ``count`` images are on the way or the lease is over; False on a time-out."""
        with self._settled:
            return self._settled.wait_for(lambda: self._is_over or self._left <= count, timeout_seconds)

    @property
    def left(self) -> int:
        """How many images are neither written nor put off."""
        return self._left


CAREFUL_AFTER = 3
"""The third holder in a row that starts on the same images takes them one at a time."""

SUSPECT_DEATHS = 3
"""An image that was alone with so many dying workers is given up. A death or two may be chance: workers get killed."""

"""What a job would take, as ranges. See ``ramq.services.estimates``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Range:
    """From ``low`` to ``high``; None: it may be any amount more."""

    low: float
    high: float | None

    @classmethod
    def exactly(cls, value: float) -> Range:
        """Return a range of one value."""
        return cls(value, value)

    def scaled(self, low: float, high: float) -> Range:
        """Return each end times a factor of its own."""
        return Range(self.low * low, None if self.high is None else self.high * high)

    def plus(self, other: Range) -> Range:
        """Return the sum of both."""
        high = None if self.high is None or other.high is None else self.high + other.high
        return Range(self.low + other.low, high)


@dataclass(frozen=True, slots=True)
class Prices:
    """What people pay. None: it is left out of the cost. The currency is theirs.

    Attributes:
        gpu_hour: of an hour of a worker on a GPU.
        cpu_hour: of an hour of a worker on a CPU.
        thousand_requests: of 1,000 requests to the store.
    """

    gpu_hour: float | None = None
    cpu_hour: float | None = None
    thousand_requests: float | None = None


Basis = Literal["measured", "trial"]


@dataclass(frozen=True, slots=True)
class EstimatedWorkers:
    """Workers on one kind of device, and how fast they are together.

    Attributes:
        stage: what they do.
        model: with which model.
        workers: how many.
        images_per_second: of all of them; None: nobody measured it.
        basis: ``measured``: by workers of this installation; ``trial``: on this machine, just now.
    """

    stage: str
    model: str
    device: str
    workers: int
    images_per_second: Range | None
    basis: Basis | None


@dataclass(frozen=True, slots=True)
class EstimateView:
    """What a job would take. Nothing was started or written.

    Attributes:
        archive: that it would read.
        images: to recognise, as if none were recorded.
        is_listed_whole: whether the archive was listed to its end.
        sampled: how many images were drawn as a sample.
        size_bytes: of the objects.
        workers: who would do it, by stage and device.
        are_alive: whether these are the workers there are now; else they are assumed.
        hours: from the beginning to the end on these workers; None: their rate is not known.
        waiting_hours: how long other jobs keep them busy first; None: not known.
        gpu_hours: of all workers together.
        cpu_hours: likewise, of workers on CPUs.
        requests: to the store: listings and reads. 0 for folders.
        database_bytes: that PostgreSQL will take more.
        index_bytes: that the index, and kept features beside it, will take more.
        cost: at the prices that were given; None: none was.
        notes: what the estimate leaves out or rests on, in sentences.
    """

    archive: str
    model: str
    stages: list[str]
    images: Range
    is_listed_whole: bool
    sampled: int
    size_bytes: Range
    workers: list[EstimatedWorkers]
    are_alive: bool
    hours: Range | None
    waiting_hours: float | None
    gpu_hours: Range | None
    cpu_hours: Range | None
    requests: Range
    database_bytes: Range
    index_bytes: Range
    cost: Range | None
    notes: list[str]

"""The API's types for estimates of jobs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ramq.schemas.jobs import NewJob
from ramq.schemas.views import FromView

MOST_LISTED = 100_000
"""Keys that a request lists at most: a hundred requests to a bucket. The command line lists more."""


class RangeOut(FromView):
    """From `low` to `high`."""

    low: float
    high: float | None = Field(description="null: it may be any amount more")


class EstimatedWorkersOut(FromView):
    """Workers on one kind of device, and how fast they are together."""

    stage: str
    model: str
    device: str
    workers: int
    images_per_second: RangeOut | None = Field(description="of all of them; null: nobody measured it")
    basis: Literal["measured", "trial"] | None = Field(
        description="`measured` by workers here, or a `trial` on this machine"
    )


class JobEstimateOut(FromView):
    """What a job would take. Nothing was started or written."""

    archive: str
    model: str
    stages: list[str]
    images: RangeOut = Field(description="to recognise, as if none were recorded")
    is_listed_whole: bool
    sampled: int = Field(description="images that were drawn as a sample")
    size_bytes: RangeOut
    workers: list[EstimatedWorkersOut]
    are_alive: bool = Field(description="whether these are the workers there are now; else they are assumed")
    hours: RangeOut | None = Field(description="from beginning to end; null: the rate is not known")
    waiting_hours: float | None = Field(description="how long other jobs keep the workers busy first; null: not known")
    gpu_hours: RangeOut | None
    cpu_hours: RangeOut | None = Field(description="hours of workers on CPUs")
    requests: RangeOut = Field(description="to the store: listings and reads; 0 for folders")
    database_bytes: RangeOut
    index_bytes: RangeOut
    cost: RangeOut | None = Field(description="at the prices that were given; null: none was")
    notes: list[str] = Field(description="what the estimate leaves out or rests on")


class NewEstimate(NewJob):
    """A job that may be started, and what its estimate is reckoned with."""

    images: int | None = Field(None, ge=1, le=10**12, description="how many there are, if you know; default: listed")
    list_keys: int = Field(20_000, ge=1, le=MOST_LISTED, description="keys that are listed at most")
    sample: int = Field(200, ge=1, le=10_000, description="images that are drawn for the mean size")
    workers: int | None = Field(None, ge=1, le=100_000, description="reckon with so many; default: those alive")
    device: str | None = Field(None, pattern="^(cpu|cuda|mps)$", description="their kind of device")
    gpu_hour_price: float | None = Field(None, ge=0, description="of an hour of a worker on a GPU, in your currency")
    cpu_hour_price: float | None = Field(None, ge=0, description="of an hour of a worker on a CPU")
    request_price: float | None = Field(None, ge=0, description="of 1,000 requests to the store")

"""The API's types for what waits, and for estimates of jobs."""

from __future__ import annotations

from pydantic import Field

from ramq.schemas.views import FromView
from storage.ledger.views import Priority  # noqa: TC001  (pydantic reads the annotations)


class DeviceSecondsOut(FromView):
    """How long one worker on a kind of device needs."""

    device: str = Field(description="`cpu`, `cuda` or `mps`")
    images_per_second: float = Field(description="of one worker")
    is_measured: bool = Field(description="whether workers here were measured; else the rate is an assumption")
    seconds: float


class WaitingWorkOut(FromView):
    """What waits for one kind of worker, of one priority."""

    kind: str = Field(description="a model of recognition, or another stage")
    priority: Priority
    images: int = Field(description="that wait or are held by workers")
    shards: int = Field(description="likewise; those of a job beyond the first 1,000 are not counted")
    listings: int = Field(description="archives that are not listed to the end, and watches that are due")
    devices: list[DeviceSecondsOut]


class BacklogOut(FromView):
    """What waits for some kinds of workers."""

    device: str
    seconds: float = Field(description="how long one worker on such a device needs for all items: scale on this")
    items: list[WaitingWorkOut]

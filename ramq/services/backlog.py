"""How much work waits for each kind of worker, in seconds of work: what the number of workers follows.

A *kind* is what a worker can be started for: a model of recognition (trained ones count as their base), or another
stage. Any device can do any kind, at its own rate, so the seconds are given for each kind of device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.errors import UsageError
from storage.ledger import backlog, paces
from storage.ledger.views import PRIORITIES
from storage.tables import RECOGNITION
from workers.messages import ANY_MODEL, STAGE_MODELS, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Engine

    from storage.ledger.backlog import Waiting
    from storage.ledger.paces import Pace
    from storage.ledger.views import Priority

KINDS = (*ANY_MODEL, *STAGE_MODELS)
"""What workers can be started for."""

DEVICES = ("cpu", "cuda")
"""Kinds of devices that seconds are always given for. Others are given once a worker on one has worked."""

LISTING_SECONDS = 60.0
"""What a listing that is not complete, or a watch that is due, counts as: enough to start one worker."""

_ASSUMED = {"cpu": 1.0, "cuda": 50.0}
_ASSUMED_OF = {("lite", "cpu"): 30.0, ("lite", "cuda"): 300.0, ("metadata", "cpu"): 100.0, ("metadata", "cuda"): 100.0}
"""Images per second of a worker until one was measured. Assumptions, on the slow side: too many workers start, not too
few, and the first batches replace them."""


@dataclass(frozen=True, slots=True)
class DeviceSeconds:
    """How long one worker on a kind of device needs.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        images_per_second: of one worker; if several models or stages wait together, the mean.
        is_measured: whether workers of this installation were measured, for all of it; else some of it is assumed.
        seconds: for everything that waits.
    """

    device: str
    images_per_second: float
    is_measured: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class WaitingWork:
    """What waits for one kind of worker, of one priority.

    Attributes:
        kind: a model of recognition, or another stage.
        images: that wait or are held by workers.
        shards: likewise; those of a job beyond the first 1,000 are not counted.
        listings: archives that are not listed to the end, and watches that are due.
        devices: how long one worker on each kind of device needs.
    """

    kind: str
    priority: Priority
    images: int
    shards: int
    listings: int
    devices: list[DeviceSeconds]

    def seconds_on(self, device: str) -> float:
        """Return how long one worker on this kind of device needs."""
        return next((each.seconds for each in self.devices if each.device == device), 0.0)


@dataclass(frozen=True, slots=True)
class BacklogView:
    """What waits for some kinds of workers.

    Attributes:
        device: the kind of device that ``seconds`` is for.
        seconds: how long one such worker needs for all items.
        measured: kind of work, kind of device, and the rate that was measured last for them.
    """

    device: str
    seconds: float
    items: list[WaitingWork]
    measured: list[tuple[str, str, float]]


class Rates:
    """Rates of one worker, measured or assumed."""

    def __init__(self, measured: Iterable[Pace]) -> None:
        self._measured = {(each.stage, each.model, each.device): each for each in measured}

    @property
    def devices(self) -> list[str]:
        """The kinds of devices that rates are known for."""
        return [*DEVICES, *sorted({device for _, _, device in self._measured} - {*DEVICES})]

    def last(self, kind: str, device: str) -> tuple[float, bool]:
        """Return the rate that was measured last for a kind of work, or the assumed one."""
        own = [
            pace
            for pace in self._measured.values()
            if pace.device == device and kind_named(pace.stage, pace.model) == kind
        ]
        if own:
            return max(own, key=lambda pace: pace.measured_at).images_per_second, True
        return _assumed(kind, device), False

    def of(self, stage: str, model: str, device: str) -> tuple[float, bool]:
        """Return images per second, and whether that was measured. A trained model is like its base."""
        for name in (model, kind_of(model)):
            if (pace := self._measured.get((stage, name, device))) is not None:
                return pace.images_per_second, True
        return _assumed(kind_named(stage, model), device), False


def _assumed(kind: str, device: str) -> float:
    return _ASSUMED_OF.get((kind, device), _ASSUMED.get(device, _ASSUMED["cpu"]))


def kind_named(stage: str, model: str) -> str:
    """Return the kind of worker that does a stage with a model."""
    return kind_of(model) if stage == RECOGNITION else stage


def backlog_of(engine: Engine, *, kinds: Sequence[str] = (), device: str = "cpu") -> BacklogView:
    """Return what waits for these kinds of workers (none named: all), each with every priority, also if nothing does.

    Raises:
        UsageError: there is no such kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"unknown kind of work {kind!r}; choose from {', '.join(KINDS)}")
    with unit_of_work(engine) as session:
        found = backlog.waiting(session)
        rates = Rates(paces.paces(session))
    if device not in rates.devices:
        raise UsageError(f"unknown kind of device {device!r}; choose from {', '.join(rates.devices)}")
    items = [
        _item(kind, priority, found, rates)
        for kind in KINDS
        if not kinds or kind in kinds
        for priority in sorted(PRIORITIES, key=lambda name: -PRIORITIES[name])
    ]
    last = {
        (kind, on): rates.last(kind, on) for kind in dict.fromkeys(item.kind for item in items) for on in rates.devices
    }
    measured = [(*place, rate) for place, (rate, is_measured) in last.items() if is_measured]
    return BacklogView(device, sum(item.seconds_on(device) for item in items), items, measured)


def _item(kind: str, priority: Priority, found: Sequence[Waiting], rates: Rates) -> WaitingWork:
    own = [each for each in found if kind_named(each.stage, each.model) == kind and each.priority == priority]
    images, listings = sum(each.images for each in own), sum(each.listings for each in own)
    devices = [_on(device, kind, own, rates) for device in rates.devices]
    return WaitingWork(kind, priority, images, sum(each.shards for each in own), listings, devices)


def _on(device: str, kind: str, own: Sequence[Waiting], rates: Rates) -> DeviceSeconds:
    known = [(each, *rates.of(each.stage, each.model, device)) for each in own]
    busy = sum(each.images / rate for each, rate, _ in known)
    images = sum(each.images for each in own)
    if images:
        usual, is_measured = images / busy, all(measured for each, _, measured in known if each.images)
    else:
        usual, is_measured = rates.last(kind, device)
    seconds = busy + LISTING_SECONDS * sum(each.listings for each in own)
    return DeviceSeconds(device, usual, is_measured, seconds)

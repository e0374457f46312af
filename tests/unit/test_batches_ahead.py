"""Batches that a device computes while the host goes on: their order, their failures, and what fits into memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from workers.pipeline import fitting, model_holder
from workers.pipeline.ahead import Ahead
from workers.pipeline.fitness import UnfitError, of_model
from workers.pipeline.fitting import Fitting
from workers.pipeline.infer import Flight, Started
from workers.pipeline.model_holder import ModelHolder
from workers.pipeline.model_options import ModelOptions
from workers.pipeline.retry import DeviceLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MODEL = "ram_plus"


@dataclass
class Device:
    """Computes batches when it is asked to, and says what happened in which order."""

    log: list[str] = field(default_factory=list)
    finished: set[str] = field(default_factory=set)
    sizes: list[int] = field(default_factory=list)
    fails: Callable[[Sequence[Any]], Exception | None] = lambda _: None
    fails_at_start: bool = False

    def start(self, works: Sequence[Any]) -> Started:
        name = "".join(work.image.key for work in works)
        self.log.append(f"start {name}")
        self.sizes.append(len(works))
        if self.fails_at_start and (error := self.fails(works)):
            raise error

        def finish() -> None:
            if error := self.fails(works):
                raise error
            self.log.append(f"read {name}")
            for work in works:
                work.prediction = work.image.key

        return Started(lambda: name in self.finished, finish)


def _batch(keys: str) -> Any:
    works = [
        SimpleNamespace(image=SimpleNamespace(key=key), prediction=None, failure=None, pixels=1, feature=None)
        for key in keys
    ]
    return SimpleNamespace(works=works, sound=works, lease=SimpleNamespace(shard=SimpleNamespace(model=MODEL)))


def _flight(device: Device, keys: str, room: Fitting | None = None) -> Flight:
    return Flight(_batch(keys), device.start, room or Fitting(lambda _: False))


def _ahead(landed: list[Flight]) -> Ahead:
    def land(flight: Flight) -> None:
        flight.finish()
        landed.append(flight)

    return Ahead(SimpleNamespace(add=lambda _lease, seconds: times.append(seconds)), land)  # type: ignore[arg-type]


times: list[float] = []


def test_the_next_batch_is_given_before_the_last_one_is_read() -> None:
    device, landed = Device(), []
    ahead = _ahead(landed)
    for keys in ("ab", "cd", "ef"):
        ahead.add(_flight(device, keys))
    assert device.log == ["start ab", "start cd", "read ab", "start ef", "read cd"]
    ahead.land_done()
    assert len(landed) == 2
    device.finished.add("ef")
    ahead.land_done()
    assert device.log[-1] == "read ef"


def test_at_the_end_all_batches_are_waited_for() -> None:
    device, landed = Device(), []
    ahead = _ahead(landed)
    ahead.add(_flight(device, "ab"))
    ahead.land_all()
    assert [work.prediction for flight in landed for work in flight.batch.works] == ["a", "b"]
    assert all(work.pixels is None for flight in landed for work in flight.batch.works)


def test_batches_that_overlap_take_the_time_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    device, landed = Device(), []
    ahead = _ahead(landed)
    times.clear()
    ahead.add(_flight(device, "ab"))  # at 100
    clock[0] = 101.0
    second = _flight(device, "cd")  # at 101
    clock[0] = 103.0
    ahead.add(second)  # reads the first at 103
    clock[0] = 104.0
    ahead.land_all()
    assert times == [3.0, 1.0]


@pytest.mark.parametrize("fails_at_start", [True, False])
def test_a_faulty_image_alone_fails(*, fails_at_start: bool) -> None:
    device = Device(fails_at_start=fails_at_start)
    device.fails = lambda works: ValueError("bad") if any(work.image.key == "f" for work in works) else None
    flight = _flight(device, "abcdefgh")
    assert flight.is_done() is fails_at_start
    flight.finish()
    failed = [work.image.key for work in flight.batch.works if work.failure]
    assert failed == ["f"]
    assert all(work.prediction for work in flight.batch.works if not work.failure)


@pytest.mark.parametrize("fails_at_start", [True, False])
def test_a_lost_device_ends_the_worker(*, fails_at_start: bool) -> None:
    device = Device(fails_at_start=fails_at_start, fails=lambda _: RuntimeError("CUDA error: an illegal access"))
    flight = _flight(device, "abcd")
    with pytest.raises(DeviceLostError):
        flight.finish()
    assert all(work.failure is None for work in flight.batch.works)


def _too_many(most: int) -> Callable[[Sequence[Any]], Exception | None]:
    return lambda works: RuntimeError("CUDA out of memory") if len(works) > most else None


def test_a_size_that_fits_is_kept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    device, room = Device(fails=_too_many(3)), Fitting(lambda _: False)
    for _ in range(2):
        flight = _flight(device, "abcdefgh", room)
        flight.finish()
        assert all(work.prediction for work in flight.batch.works)
    assert device.sizes == [8, 4, 2, 2, 4, 2, 2, 2, 2, 2, 2]
    clock[0] += fitting.KEPT_SECONDS + 1
    device.sizes.clear()
    device.fails = lambda _: None
    _flight(device, "abcdefgh", room).finish()
    assert device.sizes == [4, 4]


def test_other_models_make_room_before_a_batch_is_halved() -> None:
    device, asked = Device(), []

    def release(name: str) -> bool:
        asked.append(name)
        device.fails = lambda _: None
        return True

    device.fails = _too_many(2)
    _flight(device, "abcd", Fitting(release)).finish()
    assert (device.sizes, asked) == ([4, 4], [MODEL])


def test_too_little_memory_for_one_image_is_the_workers_fault() -> None:
    device = Device(fails=_too_many(0))
    with pytest.raises(UnfitError) as caught:
        _flight(device, "ab").finish()
    assert caught.value.key == of_model(MODEL)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of models, in the order in which they are loaded; their results are their names."""
    done: list[str] = []

    def load(name: str, _options: object) -> Any:
        done.append(name)
        return SimpleNamespace(vocabulary=SimpleNamespace(thresholds=None), name=name)

    monkeypatch.setattr(model_holder, "load_here", load)
    monkeypatch.setattr(ModelOptions, "arguments", {"device": "cpu"})
    return done


def _holder(pinned: str | None = None) -> ModelHolder:
    return ModelHolder(None, ModelOptions("cpu", Path("models"), Path("cache")), pinned)  # type: ignore[arg-type]


def test_models_that_take_turns_stay_loaded_while_there_is_room(
    loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_holder, "has_room", lambda *_: True)
    holder = _holder()
    for name in ("ram", "ram_plus", "ram", "ram_plus"):
        assert holder.get(name).name == name
    assert loads == ["ram", "ram_plus"]
    assert (holder.loaded, holder.current) == (("ram", "ram_plus"), "ram_plus")
    assert set(holder.may_follow({"lite"})) == {"lite", "ram", "ram_plus"}
    assert holder.release_idle("ram_plus")
    assert not holder.release_idle("ram_plus")
    assert holder.loaded == ("ram_plus",)


def test_the_model_used_longest_ago_makes_room(loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    holder = _holder()
    monkeypatch.setattr(model_holder, "has_room", lambda *_: len(holder.loaded) < 2)
    for name in ("ram", "ram_plus", "ram", "lite"):
        holder.get(name)
    assert holder.loaded == ("ram", "lite")
    assert loads == ["ram", "ram_plus", "lite"]


def test_a_model_that_does_not_fit_is_loaded_alone(loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_holder, "has_room", lambda *_: True)
    holder = _holder()
    holder.get("ram")
    load = model_holder.load_here

    def short(name: str, options: ModelOptions) -> Any:
        if holder.loaded:
            raise UnfitError(of_model(name), "too little") from MemoryError()
        return load(name, options)

    monkeypatch.setattr(model_holder, "load_here", short)
    assert holder.get("ram_plus").name == "ram_plus"
    assert holder.loaded == ("ram_plus",)


def test_a_pinned_worker_takes_no_jobs_of_other_models(loads: list[str]) -> None:
    holder = _holder("ram")
    holder.get("ram")
    assert holder.may_follow({"ram"}) == ("ram",)
    assert loads == ["ram"]

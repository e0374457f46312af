"""Batches that a device computes while the host goes on: their order, their failures, and what fits into memory."""

from __future__ import annotations

import threading
import weakref
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import numpy as np
import pytest

from workers.pipeline import fitting, model_holder
from workers.pipeline.fitness import UnfitError, of_model
from workers.pipeline.fitting import Fitting
from workers.pipeline.in_flight import InFlight
from workers.pipeline.infer import Started, SubmittedBatch
from workers.pipeline.leases import HeldLeases
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


@dataclass
class Shard:
    """A lease, and the step that gets its time. ``waits`` is what the step after it does before it takes a batch."""

    times: list[float] = field(default_factory=list)
    passed_on: list[Any] = field(default_factory=list)
    waits: Callable[[], None] = lambda: None
    shard: Any = field(default_factory=lambda: SimpleNamespace(model=MODEL))

    def labelled(self, _lease: object) -> Any:
        return nullcontext()

    def begun(self, _lease: object, _works: object) -> None:
        """Trace nothing."""

    def add(self, _lease: object, seconds: float) -> None:
        self.times.append(seconds)

    def pass_on(self, batch: Any) -> None:
        self.waits()
        self.passed_on.append(batch)

    def in_flight(self) -> InFlight:
        step: Any = self
        return InFlight(step, Fitting(lambda _: False), SubmittedBatch.finish, self.pass_on)

    def batch(self, keys: str) -> Any:
        works = [
            SimpleNamespace(image=SimpleNamespace(key=key), prediction=None, failure=None, pixels=1, feature=None)
            for key in keys
        ]
        return SimpleNamespace(works=works, sound=works, lease=self)


def _submitted(device: Device, keys: str, room: Fitting | None = None) -> SubmittedBatch:
    return SubmittedBatch(Shard().batch(keys), device.start, room or Fitting(lambda _: False))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in its only place."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_the_next_batch_is_given_before_the_last_one_is_read() -> None:
    device, shard = Device(), Shard()
    in_flight = shard.in_flight()
    for keys in ("ab", "cd", "ef"):
        in_flight.submit(shard.batch(keys), device.start)
    assert device.log == ["start ab", "start cd", "read ab", "start ef", "read cd"]
    in_flight.read_done()
    assert len(shard.passed_on) == 2
    device.finished.add("ef")
    in_flight.read_done()
    assert device.log[-1] == "read ef"
    read = [work for batch in shard.passed_on for work in batch.works]
    assert [work.prediction for work in read] == list("abcdef")
    assert all(work.pixels is None for work in read)


def test_batches_that_overlap_take_the_time_once(clock: list[float]) -> None:
    device, shard = Device(finished={"cd"}), Shard()
    in_flight = shard.in_flight()
    in_flight.submit(shard.batch("ab"), device.start)  # at 100

    def start(works: Sequence[Any]) -> Started:
        started = device.start(works)  # at 101
        clock[0] = 103.0
        return started

    clock[0] = 101.0
    in_flight.submit(shard.batch("cd"), start)  # reads the first at 103
    clock[0] = 104.0
    in_flight.read_done()
    assert shard.times == [3.0, 1.0]


def test_waiting_for_the_next_step_is_no_time_of_the_model(clock: list[float]) -> None:
    device, shard = Device(finished={"ab", "cd"}), Shard()
    in_flight = shard.in_flight()

    def waits() -> None:
        clock[0] += 50.0

    shard.waits = waits
    in_flight.submit(shard.batch("ab"), device.start)
    clock[0] = 101.0
    in_flight.submit(shard.batch("cd"), device.start)  # reads the first, and waits until 151
    clock[0] = 153.0
    in_flight.read_done()
    assert shard.times == [1.0, 2.0]


@pytest.mark.parametrize("fails_at_start", [True, False])
def test_a_faulty_image_alone_fails(*, fails_at_start: bool) -> None:
    device = Device(fails_at_start=fails_at_start)
    device.fails = lambda works: ValueError("bad") if any(work.image.key == "f" for work in works) else None
    submitted = _submitted(device, "abcdefgh")
    assert submitted.is_done() is fails_at_start
    submitted.finish()
    failed = [work.image.key for work in submitted.batch.works if work.failure]
    assert failed == ["f"]
    assert all(work.prediction for work in submitted.batch.works if not work.failure)


@pytest.mark.parametrize("fails_at_start", [True, False])
def test_a_lost_device_ends_the_worker(*, fails_at_start: bool) -> None:
    device = Device(fails_at_start=fails_at_start, fails=lambda _: RuntimeError("CUDA error: an illegal access"))
    submitted = _submitted(device, "abcd")
    with pytest.raises(DeviceLostError):
        submitted.finish()
    assert all(work.failure is None for work in submitted.batch.works)


def _too_many(most: int) -> Callable[[Sequence[Any]], Exception | None]:
    return lambda works: RuntimeError("CUDA out of memory") if len(works) > most else None


def test_a_size_that_fits_is_kept_for_a_while(clock: list[float]) -> None:
    device, room = Device(fails=_too_many(3)), Fitting(lambda _: False)
    for _ in range(2):
        submitted = _submitted(device, "abcdefgh", room)
        submitted.finish()
        assert all(work.prediction for work in submitted.batch.works)
    assert device.sizes == [8, 4, 2, 2, 4, 2, 2, 2, 2, 2, 2]
    clock[0] += fitting.KEPT_SECONDS + 1
    device.sizes.clear()
    device.fails = lambda _: None
    _submitted(device, "abcdefgh", room).finish()
    assert device.sizes == [4, 4]


def test_other_models_make_room_before_a_batch_is_halved() -> None:
    device, asked = Device(), []

    def release(name: str) -> bool:
        asked.append(name)
        device.fails = lambda _: None
        return True

    device.fails = _too_many(2)
    _submitted(device, "abcd", Fitting(release)).finish()
    assert (device.sizes, asked) == ([4, 4], [MODEL])


def test_a_batch_is_tried_once_more_at_full_size_and_then_halved() -> None:
    device = Device(fails=_too_many(1))
    _submitted(device, "abcd", Fitting(lambda _: True)).finish()  # as if others loaded models again each time
    assert device.sizes == [4, 4, 2, 1, 1, 2, 1, 1]


def test_a_device_that_fails_when_it_is_asked_is_judged_when_it_is_read() -> None:
    def fails() -> bool:
        raise RuntimeError("CUDA error: an illegal access")

    submitted = SubmittedBatch(Shard().batch("ab"), lambda _: Started(fails, fails), Fitting(lambda _: False))
    assert submitted.is_done()
    with pytest.raises(DeviceLostError):
        submitted.finish()


def test_the_memory_of_a_failed_batch_is_free_while_its_parts_are_tried() -> None:
    class Pixels:
        pass

    given: list[weakref.ref[Pixels]] = []
    alive: list[int] = []

    def start(works: Sequence[Any]) -> Started:
        pixels = Pixels()
        alive.append(sum(each() is not None for each in given))
        given.append(weakref.ref(pixels))

        def finish() -> None:
            local = pixels
            if len(works) > 1:
                raise ValueError(f"one of {len(works)} is bad for {local}")

        return Started(lambda: True, finish)

    SubmittedBatch(Shard().batch("abcd"), start, Fitting(lambda _: False)).finish()
    assert alive == [0] * 7


def test_too_little_memory_for_one_image_is_the_workers_fault() -> None:
    device = Device(fails=_too_many(0))
    with pytest.raises(UnfitError) as caught:
        _submitted(device, "ab").finish()
    assert caught.value.key == of_model(MODEL)


def test_what_a_worker_holds_is_in_use() -> None:
    leases = HeldLeases(None, 30.0, threading.Event())  # type: ignore[arg-type]
    for model, captioner_name in (("ram", "tag2text"), ("lite", "none")):
        leases.add(Mock(shard=Mock(model=model, captioner=captioner_name)))
    assert leases.models == {"ram", "tag2text", "lite", "none"}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of models, in the order in which they are loaded; their results are their names."""
    done: list[str] = []

    def load(name: str, _options: object, _precision: str) -> Any:
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
    assert not holder.release_idle({"ram", "ram_plus"})
    assert holder.release_idle({"ram_plus", "look"})
    assert not holder.release_idle({"ram_plus"})
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

    def short(name: str, options: ModelOptions, precision: str) -> Any:
        if holder.loaded:
            raise UnfitError(of_model(name), "too little") from MemoryError()
        return load(name, options, precision)

    monkeypatch.setattr(model_holder, "load_here", short)
    assert holder.get("ram_plus").name == "ram_plus"
    assert holder.loaded == ("ram_plus",)


def test_a_pinned_worker_takes_no_jobs_of_other_models(loads: list[str]) -> None:
    holder = _holder("ram")
    holder.get("ram")
    assert holder.may_follow({"ram"}) == ("ram",)
    assert loads == ["ram"]


def test_all_models_share_one_captioner(loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_holder, "has_room", lambda *_: True)
    captioners: list[str] = []

    def load(name: str, _options: object, precision: str) -> Any:
        captioners.append(f"{name} {precision}")
        normal = SimpleNamespace(name="squash", mean=(0.5,) * 3, std=(0.5,) * 3)
        runner = SimpleNamespace(device="cpu")
        return SimpleNamespace(preprocessing=normal, runner=runner, caption=lambda images, _: ["a dog"] * len(images))

    load_own = model_holder.load_here
    monkeypatch.setattr(model_holder, "load_here", load)
    holder, pixels = _holder(), np.zeros((2, 8, 8, 3), np.uint8)
    monkeypatch.setattr(model_holder, "load_here", load_own)
    for name in ("ram", "ram_plus"):
        sentences = holder.get(name).captioner.sentences(name, SimpleNamespace(name="squash"), pixels, [[], []])  # type: ignore[arg-type]
        assert sentences == ["a dog", "a dog"]
    assert captioners == ["tag2text float32"]
    assert not holder.release_idle({"ram", "ram_plus", "tag2text"})
    assert holder.release_idle({"ram", "ram_plus"})
    assert not holder.release_idle({"ram", "ram_plus"})

"""What a worker cannot do: barred for a while, tried once again, forgotten when it works."""

from __future__ import annotations

import errno

import pytest

from ram_core.errors import CheckpointError, DeviceError
from storage.ledger.waiting import Barred
from storage.objects.base import CredentialsError, ObjectMissingError
from workers.pipeline import fitness as module
from workers.pipeline.fitness import (
    EVERYTHING,
    Fitness,
    Key,
    UnfitError,
    as_unfit,
    is_out_of_memory,
    of_archive,
    of_model,
)

URI = "s3://photos"


class Clock:
    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_what_failed_is_left_to_others_until_a_pause_is_over_that_doubles(clock: Clock) -> None:
    fitness = Fitness()
    pauses = []
    for _ in range(8):
        fitness.declare(UnfitError(of_model("ram"), "no weights"))
        fitness.declare(UnfitError(of_archive(URI), "no credentials"))
        assert fitness.barred() == Barred(False, ["ram"], [URI])
        began = clock.now
        while fitness.barred().models:
            clock.now += 0.5
        pauses.append(clock.now - began)
        assert fitness.doubts(of_model("ram"))  # tried again, and not known to be well
    assert 1 <= pauses[0] <= 3
    assert 30 <= pauses[-1] <= 61


def test_many_threads_that_meet_one_trouble_make_one_pause(clock: Clock) -> None:
    fitness = Fitness()
    for number in range(50):
        fitness.declare(UnfitError(of_archive(URI), f"refused {number}"))
    clock.now += 3
    assert fitness.barred() == Barred(False, [], [])
    assert [unfit.reason for unfit in fitness.reasons()] == ["refused 49"]


def test_what_works_again_is_forgotten_and_nothing_else() -> None:
    fitness = Fitness()
    fitness.declare(UnfitError(EVERYTHING, "no GPU\nand more"))
    fitness.declare(UnfitError(of_model("ram"), "no weights"))
    assert fitness.barred().everything
    fitness.prove(EVERYTHING, of_model("lite"))
    assert [(unfit.kind, unfit.name) for unfit in fitness.reasons()] == [("model", "ram")]


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (DeviceError("No such device"), EVERYTHING),
        (OSError(errno.ENOSPC, "No space left on device"), EVERYTHING),
        (OSError(errno.EROFS, "Read-only file system"), EVERYTHING),
        (CheckpointError("damaged"), of_model("ram")),
        (CredentialsError("refused"), of_archive(URI)),
        (UnfitError(of_model("tag2text"), "no weights"), of_model("tag2text")),
        (OSError(errno.ENOENT, "No such file"), None),
        (ObjectMissingError("gone"), None),
        (RuntimeError("CUDA error: device-side assert"), None),
    ],
)
def test_an_error_is_the_workers_own_or_not(error: Exception, key: Key | None) -> None:
    unfit = as_unfit(error, model="ram", archive=URI)
    assert (unfit and unfit.key) == key


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("whatever it says"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_too_little_memory_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected

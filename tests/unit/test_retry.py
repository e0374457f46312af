"""The one table of errors: what is tried again, what is recorded, what stops a worker."""

from __future__ import annotations

import errno
import importlib
import pkgutil
from typing import TYPE_CHECKING

import pytest

import ram_core
import storage
import workers
from ram_core.errors import CheckpointError
from storage.errors import FatalError, PermanentError, ServiceUnavailableError, TransientError, UsageError
from storage.objects.base import BadKeyError, ObjectMissingError, StoreUnavailableError
from workers.pipeline import retry
from workers.pipeline.retry import Action, CorruptImageError, backoff_seconds, codes, tries_allowed, verdict

if TYPE_CHECKING:
    from types import ModuleType


def every_class(base: type[Exception]) -> set[type[Exception]]:
    for package in (ram_core, storage, workers):
        _import_all(package)
    found: set[type[Exception]] = set()
    waiting = [base]
    while waiting:
        kind = waiting.pop()
        found.add(kind)
        waiting += kind.__subclasses__()
    return found


def _import_all(package: ModuleType) -> None:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith((".faiss", "__main__")):
            importlib.import_module(module.name)


def test_every_class_of_error_that_blames_an_image_stands_in_the_table() -> None:
    families = {PermanentError, TransientError, retry.UndecodableError}
    leaves = {kind for family in (PermanentError, TransientError) for kind in every_class(family)} - families
    assert {kind for kind in leaves if kind.__module__.startswith(("storage", "workers"))} <= set(retry._TABLE)


@pytest.mark.parametrize(
    ("error", "action", "code"),
    [
        (StoreUnavailableError("x"), Action.RETRY, "store_unavailable"),
        (ServiceUnavailableError("x"), Action.RETRY, "service_unavailable"),
        (ObjectMissingError("x"), Action.RECORD, "missing"),
        (BadKeyError("x"), Action.RECORD, "bad_key"),
        (CorruptImageError("x"), Action.RECORD, "corrupt"),
        (MemoryError(), Action.RECORD, "out_of_memory"),
        (ZeroDivisionError(), Action.RECORD, "unexpected"),
        (CheckpointError("x"), Action.UNFIT, "checkpoint"),
        (OSError(errno.ENOSPC, "x"), Action.UNFIT, "disk_full"),
        (FatalError("x"), Action.STOP, "fatal"),
    ],
)
def test_an_error_is_judged_by_its_class(error: Exception, action: Action, code: str) -> None:
    judged = verdict(error)
    assert (judged.action, judged.code) == (action, code)


def test_a_class_nobody_thought_of_is_judged_by_its_nearest_relative() -> None:
    class StrangeMissingError(ObjectMissingError):
        code = "strange"

    class StrangePassingError(TransientError):
        code = "strange"

    assert verdict(StrangeMissingError("x")).code == "missing"
    assert verdict(StrangePassingError("x")) == retry.Verdict(Action.RETRY, "strange")


def test_a_class_that_is_not_listed_keeps_what_it_says_of_the_bytes() -> None:
    class OfTheBytesError(PermanentError):
        code = "strange"

    class OfTheSurroundingsError(PermanentError):
        code = "stranger"
        about_content = False

    assert verdict(OfTheBytesError("x")) == retry.Verdict(Action.RECORD, "strange", about_content=True)
    assert verdict(OfTheSurroundingsError("x")) == retry.Verdict(Action.RECORD, "stranger")


def test_only_the_bytes_spare_an_image_from_being_read_again() -> None:
    assert verdict(CorruptImageError("x")).about_content
    for error in (ObjectMissingError("x"), StoreUnavailableError("x"), MemoryError(), ValueError()):
        assert not verdict(error).about_content


def test_codes_are_listed_once_in_order_and_without_those_that_stop_a_worker() -> None:
    listed = codes()
    assert listed == sorted(set(listed))
    assert {"corrupt", "missing", "unexpected", "out_of_memory", "store_unavailable"} <= set(listed)
    assert not {"checkpoint", "device", "fatal"} & set(listed)


def test_waits_grow_but_not_for_ever_and_differ_between_workers() -> None:
    waits = [[backoff_seconds(tries) for _ in range(20)] for tries in range(0, 2000, 7)]
    assert all(0 < wait <= 60 for some in waits for wait in some)
    assert max(waits[0]) <= 2
    assert min(waits[-1]) >= 30
    assert len(set(waits[-1])) > 1


def test_an_outage_is_waited_for_much_longer_than_one_stubborn_image() -> None:
    assert tries_allowed(has_progress=False) > 5 * tries_allowed(has_progress=True) > 0


def test_what_a_user_did_wrong_is_never_taken_for_an_outage() -> None:
    assert verdict(UsageError("x")).action is not Action.RETRY

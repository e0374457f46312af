"""One thread of each library, for all who ask for it at the same time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np  # noqa: F401  (it brings the BLAS that is limited here)
import pytest
from threadpoolctl import ThreadpoolController

from ram_core.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Iterator


def threads(api: str = "blas") -> set[int]:
    return {library["num_threads"] for library in ThreadpoolController().info() if library["user_api"] == api}


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    with ThreadpoolController().limit(limits=3):
        yield


def test_the_last_thread_that_leaves_restores_what_the_first_one_found() -> None:
    second_is_in, first_is_out = threading.Event(), threading.Event()
    seen: list[set[int]] = []

    def second() -> None:
        with one_thread():
            second_is_in.set()
            assert first_is_out.wait(30)
            seen.append(threads())

    other = threading.Thread(target=second)
    with one_thread():
        seen.append(threads())
        other.start()
        assert second_is_in.wait(30)
    first_is_out.set()
    other.join()
    assert seen == [{1}, {1}]
    assert threads() == {3}


def test_it_ends_after_an_error_and_can_be_nested() -> None:
    def fails() -> None:
        with one_thread():
            with one_thread():
                assert threads() == {1}
            assert threads() == {1}
            raise MemoryError

    with pytest.raises(MemoryError):
        fails()
    assert threads() == {3}


def test_openmp_is_limited_in_each_thread_that_asks() -> None:
    import torch  # noqa: F401, PLC0415  (which brings OpenMP)

    seen: list[set[int]] = []

    def second() -> None:
        with one_thread():
            seen.append(threads("openmp"))

    with one_thread():
        seen.append(threads("openmp"))
        other = threading.Thread(target=second)
        other.start()
        other.join()
    assert seen == [{1}, {1}]

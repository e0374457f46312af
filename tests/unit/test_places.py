"""Places: so many calls at a time, and who waits holds no thread."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.to_thread import current_default_thread_limiter

from ramq.web.places import BusyError, Places
from ramq.web.problems import problem_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    """Run it in a thread of its own: a browser of other tests may keep an event loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(anyio.run, work).result()


def test_calls_beyond_the_places_wait_and_take_no_thread_of_the_others() -> None:
    lock, at_once, most = threading.Lock(), 0, 0

    def work(number: int, *, by: int) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.02)
        with lock:
            at_once -= 1
        return number * by

    async def all_of_them() -> list[int]:
        places, found, borrowed = Places(3, 10.0, "tests"), [], []

        async def one(number: int) -> None:
            found.append(await places.run(work, number, by=2))
            borrowed.append(current_default_thread_limiter().borrowed_tokens)

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(one, number)
        assert set(borrowed) == {0}
        return found

    assert sorted(run(all_of_them)) == list(range(0, 60, 2))
    assert most == 3


def test_who_finds_no_place_in_time_is_told_to_come_again_and_the_place_comes_back() -> None:
    async def both() -> None:
        places, may_end = Places(1, 0.05, "tests are running"), threading.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(places.run, may_end.wait, 60)
            await anyio.sleep(0.01)
            with pytest.raises(BusyError, match="as many tests are running as") as refused:
                await places.run(int)
            may_end.set()
        problem = problem_of(refused.value)
        assert (problem.status, problem.type) == (503, "urn:ramq:problem:busy")
        assert await places.run(int, "7") == 7

    run(both)


def test_an_error_frees_the_place() -> None:
    async def twice() -> None:
        places = Places(1, 0.05, "tests")
        for _ in range(2):
            with pytest.raises(ValueError, match="invalid literal"):
                await places.run(int, "x")

    run(twice)

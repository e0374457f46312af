"""Threads of their own for what takes long: decoding pictures never takes the threads that answer everything else."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from anyio import CapacityLimiter, fail_after
from anyio.to_thread import run_sync

from storage.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")


class BusyError(TransientError):
    """Nothing became free in time."""

    code = "busy"


class Places:
    """Runs at most so many calls at a time, each in a thread. Who waits for a place holds no thread.

    Args:
        count: how many calls at a time.
        seconds: how long a call may wait for its place.
        what: what the calls do, for the error: "pictures are being searched".
    """

    def __init__(self, count: int, seconds: float, what: str) -> None:
        self._seconds, self._what = seconds, what
        self._places, self._threads = CapacityLimiter(count), CapacityLimiter(count)

    async def run(self, call: Callable[Asked, Answer], *args: Asked.args, **named: Asked.kwargs) -> Answer:
        """Wait for a place, and return what ``call`` returns.

        A place is held until the call has ended, also if its client goes away.

        Raises:
            BusyError: none became free in time.
        """
        whose = object()
        try:
            with fail_after(self._seconds):
                await self._places.acquire_on_behalf_of(whose)
        except TimeoutError:
            message = f"as many {self._what} as this server can do at a time; try again in a few seconds"
            raise BusyError(message) from None
        try:
            return await run_sync(partial(call, *args, **named), limiter=self._threads)
        finally:
            self._places.release_on_behalf_of(whose)

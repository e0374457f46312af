"""What takes long and much memory is done one at a time: some requests wait for their turn, others come again later."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRY_AFTER_SECONDS = 10
TEACHING = "Others are teaching at the moment, and the server does this one at a time. Try again in a minute."


class BusyError(HTTPException):
    """Too many wait already, or the wait was too long."""

    def __init__(self, detail: str = TEACHING) -> None:
        super().__init__(429, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


class Turns:
    """Lets one thread in at a time. Thread-safe.

    Args:
        waiting: how many may wait. Each of them holds one of the threads that answer requests.
        seconds: how long.
    """

    def __init__(self, waiting: int = 4, seconds: float = 120.0) -> None:
        self._seconds = seconds
        self._turn, self._places = threading.Lock(), threading.BoundedSemaphore(1 + waiting)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn, and hold it. Raises ``BusyError``."""
        if not self._places.acquire(blocking=False):
            raise BusyError
        try:
            if not self._turn.acquire(timeout=self._seconds):
                raise BusyError
            try:
                yield
            finally:
                self._turn.release()
        finally:
            self._places.release()

"""Answers that are written while they are sent: what writes to a file writes to the client, in bounded memory."""

from __future__ import annotations

import io
import threading
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import IO, TYPE_CHECKING, cast

from typing_extensions import override

from ramq.web.turns import BusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

CHUNK_BYTES = 64 * 1024
_CHUNKS = 16
_LOOK_SECONDS = 1.0
STALLED_SECONDS = 60.0
"""A client that reads nothing for this long is given up."""


class Streams:
    """Streams that are sent, at most some at a time. Thread-safe.

    Args:
        most: each of them reads the database and uses a core.
        seconds: after so long without a reader, what writes gets ``BrokenPipeError``.
    """

    def __init__(self, most: int = 4, seconds: float = STALLED_SECONDS) -> None:
        self._most, self._seconds = most, seconds
        self._places = threading.BoundedSemaphore(most)

    def begin(self, write: Callable[[IO[bytes]], None]) -> Iterator[bytes]:
        """Let ``write`` write in a thread, and return what it writes, in chunks.

        Raises:
            BusyError: too many are sent already.
            Exception: what ``write`` raises before the first chunk is complete. Later errors are raised by the
                iterator, so that the answer ends in the middle instead of looking complete.
        """
        if not self._places.acquire(blocking=False):
            raise BusyError(f"{self._most} exports are being sent already. Try again when one of them is over.")
        pipe = _Pipe(self._seconds)

        def run() -> None:
            try:
                with suppress(BrokenPipeError):  # nobody reads
                    pipe.fill(write)
            finally:
                self._places.release()

        threading.Thread(target=run, name="export", daemon=True).start()
        first = pipe.read_chunk()
        return _chunks(first, pipe)


def _chunks(first: bytes | None, pipe: _Pipe) -> Iterator[bytes]:
    try:
        chunk = first
        while chunk is not None:
            yield chunk
            chunk = pipe.read_chunk()
    finally:
        pipe.abandon()


class _Pipe(io.RawIOBase):
    """A file to write to; what is written waits in a short queue for a reader."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._queue: Queue[bytes | BaseException | None] = Queue(_CHUNKS)
        self._is_over = False

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, data: Buffer, /) -> int:
        """Wait for a place in the queue. Raises ``BrokenPipeError`` if nobody reads."""
        content = bytes(data)
        self._put(content)
        return len(content)

    def fill(self, write: Callable[[IO[bytes]], None]) -> None:
        """Let ``write`` write here, and say how that ended. Raises ``BrokenPipeError`` if nobody reads."""
        ended: BaseException | None = None
        file = io.BufferedWriter(self, CHUNK_BYTES)
        try:
            write(cast("IO[bytes]", file))
            file.flush()
        except BrokenPipeError:
            raise
        except BaseException as error:  # noqa: BLE001  (raised where it is read)
            ended = error
        self._put(ended)

    def read_chunk(self) -> bytes | None:
        """Return what was written next; None: nothing more comes. Raises the error that ended it."""
        while True:
            try:
                found = self._queue.get(timeout=_LOOK_SECONDS)
            except Empty:
                if self._is_over:
                    raise BrokenPipeError("the stream was given up, since nobody read it") from None
                continue
            if isinstance(found, BaseException):
                raise found
            return found

    def abandon(self) -> None:
        """Say that nobody reads any more."""
        self._is_over = True
        while not self._queue.empty():  # who waits for a place sees that
            self._queue.get_nowait()

    def _put(self, found: bytes | BaseException | None) -> None:
        try:
            if not self._is_over:
                self._queue.put(found, timeout=self._seconds)
        except Full:
            self._is_over = True
        if self._is_over:
            raise BrokenPipeError("nobody reads the stream")

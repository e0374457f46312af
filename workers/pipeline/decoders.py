"""Decoding in child processes: an image that crashes its decoder, hangs or takes all memory harms nothing else.

Children are started as new processes, not forked. They load neither models nor client libraries of services. They hold
no secrets (``workers.pipeline.decoder_child``), and their answers are checked before they are used.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import structlog

from ram_core.metadata.facts import MOST_BYTES, FileFacts, unpacked
from ram_core.pictures import Decoded
from storage.errors import FatalError
from workers.pipeline.decoder_child import ANSWER, FACTS, READY, REQUEST, receive
from workers.pipeline.retry import (
    REFUSALS,
    DecoderCrashedError,
    DecoderMemoryError,
    DecoderTimeoutError,
    UndecodableError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ram_core.recognition import Preprocessing

log = structlog.get_logger()

CHILD = "workers.pipeline.decoder_child"
"""The module that a child runs."""

PICTURE_SECONDS = 15
"""Time limit for one image. The largest images allowed take a few seconds."""

_GRACE_SECONDS = 5.0
"""The kernel ends a child after the time limit. If it does not, the parent ends the child this much later."""

_START_SECONDS = 60.0

_BASE_BYTES = 1 << 30
_BYTES_PER_PIXEL = 16
"""Memory limit of a child: its programs, twice the file, and four copies of the largest image in four channels."""

_MOST_ANSWER_BYTES = 1 << 26

_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    # By default glibc returns pages after every image and faults them in again: a quarter of the time of a large one.
    "MALLOC_TRIM_THRESHOLD_": str(1 << 26),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 26),
}

_REFUSALS: dict[str, type[Exception]] = {
    "MemoryError": DecoderMemoryError,
    **{kind.__name__: kind for kind in REFUSALS},
}


@dataclass(frozen=True, slots=True)
class FileToDecode:
    """A file, the page of it that is wanted, from 1, and the descriptor of an open file with the same bytes, if any."""

    body: bytes | memoryview
    page: int = 1
    descriptor: int | None = None


class Decoders:
    """A pool of child processes, each started when first needed. Thread-safe; decodes one image per child at a time.

    Args:
        count: maximum number of children.
        max_pixels: images with more pixels are rejected.
        seconds: time limit of a child for one image.
        reads_truncated: whether files that are cut short are read as far as they go.
    """

    def __init__(
        self, count: int, max_pixels: int, seconds: int = PICTURE_SECONDS, *, reads_truncated: bool = False
    ) -> None:
        self._limits = (seconds, _BASE_BYTES + _BYTES_PER_PIXEL * max_pixels, max_pixels, int(reads_truncated))
        # Last in, first out: with little work, few children are started.
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(None)
        weakref.finalize(self, _end_all, self._idle)

    def decode(self, body: bytes | memoryview, preprocessing: Preprocessing, *, page: int = 1) -> Decoded:
        """Decode and prepare one image; see :meth:`decode_for_all`."""
        return self.decode_for_all(body, [preprocessing], page=page)[0]

    def decode_for_all(
        self, body: bytes | memoryview, preparations: Sequence[Preprocessing], *, page: int = 1
    ) -> list[Decoded]:
        """Decode one image once and prepare it in several ways. Raises as :meth:`read_for_all`."""
        return self._read(FileToDecode(body, page), preparations, wants_facts=False)[0]

    def whole(self, body: bytes | memoryview, *, page: int = 1) -> NDArray[np.uint8]:
        """Return all (H, W, 3) pixels of one image, upright. Raises as :meth:`read_for_all`."""
        from workers.pipeline.decode import BandTransform, band_rows  # noqa: PLC0415  (Pillow; only this needs it)

        # One answer of a child is too small for the largest images, so they come in bands.
        count = 3 * self._limits[2] // _MOST_ANSWER_BYTES + 2
        bands = self.decode_for_all(body, [BandTransform(number, count) for number in range(count)], page=page)
        height = bands[0].height
        rows = band_rows(height, count)
        own = [each.pixels[: max(0, min(rows, height - number * rows))] for number, each in enumerate(bands)]
        return np.concatenate(own)

    def read_for_all(
        self,
        body: bytes | memoryview,
        preparations: Sequence[Preprocessing],
        *,
        page: int = 1,
        descriptor: int | None = None,
    ) -> tuple[list[Decoded], FileFacts]:
        """Decode one image once and prepare it in several ways, and read what its file says.

        Waits while all children are busy. ``page`` is the page of the file, from 1; ``descriptor`` an open file with
        these bytes, if there is one: the child then reads what it needs of it.

        Raises:
            UndecodableError: a subclass says why not.
            FatalError: child processes cannot be started on this machine.
        """
        return self._read(FileToDecode(body, page, descriptor), preparations, wants_facts=True)

    def _read(
        self, file: FileToDecode, preparations: Sequence[Preprocessing], *, wants_facts: bool
    ) -> tuple[list[Decoded], FileFacts]:
        child = self._idle.get()
        try:
            for is_last in (False, True):
                child = child or _Child(self._limits)
                try:
                    return child.decode(file, preparations, wants_facts=wants_facts)
                except (DecoderCrashedError, DecoderMemoryError, DecoderTimeoutError) as error:
                    if child.is_over:
                        child = None
                    # A crash may be chance (processes get killed): try once more. A timeout would only repeat itself.
                    if is_last or child is not None or isinstance(error, DecoderTimeoutError):
                        raise
                    log.warning("decoder died", error=str(error))
            raise AssertionError  # the last round returned or raised
        finally:
            self._idle.put(child)

    def close(self) -> None:
        """End the idle children. When no thread decodes any more, these are all of them."""
        _end_all(self._idle)


class _Child:
    """One process and our end of its socket. Belongs to the thread that took it out of the pool."""

    def __init__(self, limits: tuple[int, int, int, int]) -> None:
        self._seconds = limits[0]
        self.is_over = False
        self._socket, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(  # noqa: S603  (the command is ours)
                [sys.executable, "-P", "-m", CHILD, str(other.fileno()), *map(str, limits)],
                # Pass nothing of our environment: a compromised decoder must not find credentials.
                env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **_ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
            )
        self._socket.settimeout(_START_SECONDS)
        try:
            receive(self._socket, bytearray(len(READY)))
        except (EOFError, OSError) as error:
            self.end()
            raise FatalError(
                f"the decoder process did not start (exit status {self._process.returncode}): "
                "the log lines before this one say why"
            ) from error
        self._socket.settimeout(self._seconds + _GRACE_SECONDS)

    def decode(
        self, file: FileToDecode, preparations: Sequence[Preprocessing], *, wants_facts: bool
    ) -> tuple[list[Decoded], FileFacts]:
        """Decode one image. After a crash or an invalid answer, this child cannot be used again."""
        preparation = pickle.dumps(list(preparations))
        try:
            about = (wants_facts, file.descriptor is not None, file.page, len(preparation), len(file.body))
            self._socket.sendall(REQUEST.pack(*about) + preparation)
            if file.descriptor is None:
                self._socket.sendall(file.body)
            else:
                socket.send_fds(self._socket, [b"\x00"], [file.descriptor])
            decoded = [self._answer() for _ in preparations]  # the first one raises if there are no pixels
            return decoded, self._facts() if wants_facts else FileFacts()
        except TimeoutError:
            self.end()
            raise DecoderTimeoutError(f"not decoded within {self._seconds} seconds") from None
        except (EOFError, OSError):
            raise self._death() from None

    def _answer(self) -> Decoded:
        header = ANSWER.unpack(receive(self._socket, bytearray(ANSWER.size)))
        is_decoded, rows, columns, width, height, share, pages, length = header
        if length > _MOST_ANSWER_BYTES or (is_decoded and length != rows * columns * 3):
            self.end()
            raise DecoderCrashedError("the decoder sent an invalid answer")
        payload = receive(self._socket, bytearray(length))
        if is_decoded:
            pixels = np.frombuffer(payload, np.uint8).reshape(rows, columns, 3)  # (S, S, 3)
            return Decoded(pixels, width, height, share if share >= 0 else None, max(1, pages))
        name, detail, counted = json.loads(payload)
        refusal = _REFUSALS.get(name, RuntimeError)(detail or "decoding exceeds the memory limit for one image")
        if isinstance(refusal, UndecodableError):
            refusal.pages = int(counted)
        raise refusal

    def _facts(self) -> FileFacts:
        (length,) = FACTS.unpack(receive(self._socket, bytearray(FACTS.size)))
        try:
            if length <= MOST_BYTES:
                return unpacked(bytes(receive(self._socket, bytearray(length))))
        except (ValueError, TypeError):
            pass
        self.end()
        raise DecoderCrashedError("the decoder sent an invalid answer")

    def _death(self) -> Exception:
        """End what is left of the child and return the reason of its death."""
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self.end()
        code = -self._process.returncode
        if code == signal.SIGALRM:
            return DecoderTimeoutError(f"not decoded within {self._seconds} seconds")
        if code == signal.SIGKILL:
            return DecoderMemoryError("the decoder was killed, probably because the machine ran out of memory")
        reason = signal.Signals(code).name if code > 0 else f"exit code {-code}"
        return DecoderCrashedError(f"the image crashed the decoder ({reason})")

    def end(self) -> None:
        """End the process in any state."""
        self.is_over = True
        self._socket.close()
        self._process.kill()
        self._process.wait()


def _end_all(idle: queue.LifoQueue[_Child | None]) -> None:
    for child in [idle.get_nowait() for _ in range(idle.qsize())]:
        if child is not None:
            child.end()
        idle.put(None)

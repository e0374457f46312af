"""The child process that decodes images; ``workers.pipeline.decoders`` runs this module.

It owns only one end of a socket: no credentials, no environment, no open files. It decodes one image at a time until
the other end is closed, which also happens when its parent dies. An image that takes too long ends the process.
"""

from __future__ import annotations

import json
import mmap
import os
import pickle
import resource
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import ram_core.transforms  # noqa: F401  (the pickled objects need it; loaded before memory is limited)
from ram_core import metadata
from ram_core.pictures import load_plugins
from workers.pipeline.decode import decode_for_all, guard_pillow
from workers.pipeline.retry import UndecodableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ram_core.pictures import Decoded

REQUEST = struct.Struct("!??IIQ")
"""Whether to read what the file says too; whether the file comes as an open file instead of its bytes; which page;
length in bytes of pickled preprocessings and of the file. The preprocessings follow, then the file."""

ANSWER = struct.Struct("!?IIIIfIQ")
"""Whether there are pixels; their rows and columns; the true width and height of the image; the share of its rows that
were read if its file is cut short, else -1; the pages of the file; the bytes that follow.

There is one answer for each preprocessing, in the same order, or a single one that says why there are no pixels."""

FACTS = struct.Struct("!I")
"""Length in bytes of what the file says (``ram_core.metadata``), which follows: behind the pixels, if it was asked."""

READY = b"\x01"
"""Sent once by the child, when its limits are set."""


def main(arguments: Sequence[str]) -> None:
    """Serve until the other end is closed.

    Arguments: descriptor of the socket, seconds, bytes of memory, pixels, whether to read what is cut short (0 or 1).
    """
    descriptor, seconds, memory_bytes, max_pixels, reads_truncated = (int(argument) for argument in arguments)
    guard_pillow(max_pixels)
    load_plugins()
    _limit(memory_bytes)
    with socket.socket(fileno=descriptor) as parent:
        parent.sendall(READY)
        # Output of decoders would mix with the worker's log. The reason for a rejection is returned as an answer.
        os.dup2(1, 2)
        with suppress(EOFError, ConnectionError):
            while True:
                _serve(parent, seconds, max_pixels, reads_truncated=bool(reads_truncated))


def _limit(memory_bytes: int) -> None:
    # A worker that has to stop finishes its batch first. Then the closed socket ends its children, not the signal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":  # other kernels do not enforce it
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        with suppress(OSError):  # best effort: if memory runs out anyway, kill the child, not the worker
            Path("/proc/self/oom_score_adj").write_text("1000")


def _serve(parent: socket.socket, seconds: int, max_pixels: int, *, reads_truncated: bool) -> None:
    wants_facts, is_open, page, preparation_bytes, body_bytes = REQUEST.unpack(receive(parent, bytearray(REQUEST.size)))
    preparation = receive(parent, bytearray(preparation_bytes))
    body = _mapped(parent, body_bytes) if is_open else receive(parent, bytearray(body_bytes))
    signal.setitimer(signal.ITIMER_REAL, seconds)  # its signal has no handler and ends the process
    # First, since a page is decoded from a file that is changed in memory.
    facts = metadata.read(memoryview(body)).packed() if wants_facts else b""
    answers = _answers(preparation, body, page, max_pixels, reads_truncated=reads_truncated)
    has_pixels = answers[-1][0] is not None
    signal.setitimer(signal.ITIMER_REAL, 0)
    for about, payload in answers:
        parent.sendall(ANSWER.pack(about is not None, *(about or (0, 0, 0, 0, -1, 1)), len(payload)))
        parent.sendall(payload)
    if wants_facts and has_pixels:
        parent.sendall(FACTS.pack(len(facts)) + facts)


def _mapped(parent: socket.socket, length: int) -> mmap.mmap:
    """Receive an open file, and return it in memory. What is written to that does not change the file."""
    _, descriptors, _, _ = socket.recv_fds(parent, 1, 1)
    if not descriptors:
        raise EOFError
    try:
        return mmap.mmap(descriptors[0], length, access=mmap.ACCESS_COPY)
    finally:
        os.close(descriptors[0])


def _answers(
    preparation: bytearray, body: bytearray | mmap.mmap, page: int, max_pixels: int, *, reads_truncated: bool
) -> list[tuple[tuple[float, ...] | None, bytes]]:
    try:
        preparations = pickle.loads(preparation)  # noqa: S301  (our parent wrote it)
        decoded = decode_for_all(memoryview(body), preparations, max_pixels, reads_truncated=reads_truncated, page=page)
    except (UndecodableError, MemoryError) as error:
        return [(None, json.dumps([type(error).__name__, str(error), getattr(error, "pages", 1)]).encode())]
    except Exception as error:  # noqa: BLE001  (the parent's table of errors classifies it)
        return [(None, json.dumps(["", f"{type(error).__name__}: {error}", 1]).encode())]
    return [(_about(one), one.pixels.tobytes()) for one in decoded]


def _about(one: Decoded) -> tuple[float, ...]:
    return (*one.pixels.shape[:2], one.width, one.height, -1.0 if one.share is None else one.share, one.pages)


def receive(other: socket.socket, into: bytearray) -> bytearray:
    """Fill a buffer from a socket and return it. Raises ``EOFError`` if the other end is closed before it is full."""
    view = memoryview(into)
    while view.nbytes:
        count = other.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return into


if __name__ == "__main__":
    main(sys.argv[1:])

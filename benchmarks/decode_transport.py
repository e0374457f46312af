"""Three ways to hand a file to a child process and take pixels back, without decoding anything."""

from __future__ import annotations

import mmap
import os
import socket
import struct
import time
from typing import TYPE_CHECKING

from workers.pipeline.decoder_child import receive

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWER_BYTES = 384 * 384 * 3
_HEAD = struct.Struct("!Q")
_ROOM = 1 << 26


def measure(sizes: dict[str, int], rounds: int) -> dict[str, dict[str, float]]:
    """Return milliseconds per picture by size of the file and by way; the best of the rounds, taken in turns."""
    ways = {"socket": _Socket(), "shared memory": _Shared(), "descriptor each": _Descriptors()}
    found = {}
    for name, length in sizes.items():
        body = os.urandom(length)
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, transport in ways.items():
                began = time.perf_counter()
                transport.turn(body)
                taken[way].append(time.perf_counter() - began)
        found[name] = {way: round(min(seconds) * 1000, 3) for way, seconds in taken.items()}
    for transport in reversed(ways.values()):  # a later child has inherited the sockets of earlier ones
        transport.end()
    return found


class _Transport:
    """A forked child that answers every file with as many bytes as a small square of pixels has."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        self._child = os.fork()
        if self._child == 0:
            self.ours.close()
            try:
                _until_closed(lambda: self.serve(theirs, bytes(ANSWER_BYTES)))
            finally:
                os._exit(0)
        theirs.close()

    def serve(self, theirs: socket.socket, answer: bytes) -> None:
        raise NotImplementedError

    def turn(self, body: bytes) -> bytes | bytearray:
        raise NotImplementedError

    def end(self) -> None:
        self.ours.close()
        os.waitpid(self._child, 0)


def _until_closed(serve: Callable[[], None]) -> None:
    while True:
        try:
            serve()
        except (EOFError, OSError):
            return


class _Socket(_Transport):
    """As the workers do: everything goes through the socket."""

    def serve(self, theirs: socket.socket, answer: bytes) -> None:
        (length,) = _HEAD.unpack(receive(theirs, bytearray(_HEAD.size)))
        receive(theirs, bytearray(length))
        theirs.sendall(answer)

    def turn(self, body: bytes) -> bytearray:
        self.ours.sendall(_HEAD.pack(len(body)))
        self.ours.sendall(body)
        return receive(self.ours, bytearray(ANSWER_BYTES))


class _Shared(_Transport):
    """One piece of memory that both have mapped all the time; the socket only says when."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _ROOM)
        super().__init__()

    def serve(self, theirs: socket.socket, answer: bytes) -> None:
        (length,) = _HEAD.unpack(receive(theirs, bytearray(_HEAD.size)))
        # A child must not decode memory that its parent can change, but the parent is trusted: no copy is needed.
        memoryview(self._memory)[:length].release()
        self._memory[:ANSWER_BYTES] = answer
        theirs.sendall(_HEAD.pack(ANSWER_BYTES))

    def turn(self, body: bytes) -> bytes:
        self._memory[: len(body)] = body
        self.ours.sendall(_HEAD.pack(len(body)))
        receive(self.ours, bytearray(_HEAD.size))
        return self._memory[:ANSWER_BYTES]  # a copy: the child could change it after it was checked


class _Descriptors(_Transport):
    """A file in memory for each picture, whose descriptor is sent; the pixels come through the socket."""

    def serve(self, theirs: socket.socket, answer: bytes) -> None:
        data, descriptors, _, _ = socket.recv_fds(theirs, _HEAD.size, 1)
        if not data:
            raise EOFError
        with mmap.mmap(descriptors[0], _HEAD.unpack(data)[0], access=mmap.ACCESS_READ):
            os.close(descriptors[0])
        theirs.sendall(answer)

    def turn(self, body: bytes) -> bytearray:
        descriptor = os.memfd_create("picture")
        view = memoryview(body)
        while view:
            view = view[os.write(descriptor, view) :]
        socket.send_fds(self.ours, [_HEAD.pack(len(body))], [descriptor])
        os.close(descriptor)
        return receive(self.ours, bytearray(ANSWER_BYTES))

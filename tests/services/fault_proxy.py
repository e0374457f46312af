"""A proxy that stands in front of an HTTP server and lets faults happen when told to.

Each request travels on a connection of its own, so a fault hits requests, not whatever shares a connection with them.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.services.closing import drop, stop_listening

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Status:
    """The proxy answers by itself, as S3 would: 503 SlowDown, 403 AccessDenied, 500 InternalError, or as is said."""

    code: int = 503
    error: str | None = None


@dataclass(frozen=True)
class Cut:
    """The body ends after so many bytes, though the header promised more."""

    after_bytes: int


@dataclass(frozen=True)
class Stall:
    """The answer does not begin, or stops after so many bytes of the body, until the fault is lifted."""

    after_bytes: int = 0


@dataclass(frozen=True)
class Reset:
    """The connection is reset instead of an answer."""


@dataclass(frozen=True)
class Refuse:
    """Nobody listens any more."""


@dataclass(frozen=True)
class Trickle:
    """The body comes a few bytes at a time, until the fault is lifted."""

    bytes_per_second: int = 1


Fault = Status | Cut | Stall | Reset | Refuse | Trickle


@dataclass
class Rule:
    """Which requests meet a fault: those whose path contains ``only``, a ``share`` of them, ``times`` at most."""

    fault: Fault
    share: float = 1.0
    only: str = ""
    times: int | None = None


_CODES = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}


class FaultProxy:
    """See the module; made by :func:`fault_proxy`.

    Attributes:
        url: address of the proxy, to be used in place of the server's.
        requests: method and path of every request so far, also of those that met a fault.
    """

    def __init__(self, upstream_url: str, *, host: str = "127.0.0.1", port: int = 0) -> None:
        parts = urlsplit(upstream_url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._upstream = (parts.hostname, parts.port)
        self._rules: tuple[Rule, ...] = ()
        self._random = random.Random(0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self._lifted = asyncio.Event()
        self._turn = asyncio.Lock()
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.requests: list[tuple[str, str]] = []
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None
        self._call(self._listen())
        self.url = f"http://{host}:{self._port}"

    def fail(self, fault: Fault, *, only: str = "", times: int | None = None) -> None:
        """Lets requests whose path contains ``only`` meet a fault, the next ``times`` of them or until :meth:`heal`."""
        self.storm(Rule(fault, only=only, times=times))

    def storm(self, *rules: Rule, seed: int = 0) -> None:
        """Lets requests meet the first fault whose rule hits them, drawn from ``seed``, until :meth:`heal`."""
        self._random = random.Random(seed)
        self._call(self._change(rules))

    def heal(self) -> None:
        """Ends the fault; what stalled goes on."""
        self._call(self._change(()))

    def close(self) -> None:
        """Stops listening and drops what is open."""
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, self._host, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _change(self, rules: tuple[Rule, ...]) -> None:
        self._rules = rules
        self._lifted.set()
        self._lifted = asyncio.Event()
        async with self._turn:
            if any(isinstance(rule.fault, Refuse) for rule in rules):
                await self._stop_listening()
            elif self._server is None:
                await self._listen()

    async def _stop_listening(self) -> None:
        if self._server is not None:
            await stop_listening(self._server)
            self._server = None

    async def _shut(self) -> None:
        await self._stop_listening()
        await drop(self._clients)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task that is cancelled before its first step closes nothing: who closes is known from here on.
        task = self._loop.create_task(self._serve(reader, writer))
        self._clients[task] = writer
        task.add_done_callback(lambda done: self._clients.pop(done).close())

    def _next_fault(self, path: str) -> Fault | None:
        for rule in self._rules:
            if rule.only in path and rule.times != 0 and self._random.random() < rule.share:
                if rule.times is not None:
                    rule.times -= 1
                return rule.fault
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):  # the other side went away: nothing to tell
            await self._handle(reader, writer)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        self.requests.append((method, path))
        fault = self._next_fault(path)
        if isinstance(fault, Reset):
            _reset(writer)
        elif isinstance(fault, Status):
            writer.write(_answer(fault))
            await writer.drain()
        else:
            await self._forward(_close_after(head), reader, writer, fault)

    async def _forward(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None
    ) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        try:
            up_writer.write(head)
            upload = asyncio.ensure_future(_pump(reader, up_writer))
            try:
                answer = await up_reader.readuntil(b"\r\n\r\n")
                while answer.startswith(b"HTTP/1.1 100"):  # the client waits for leave to send its body
                    writer.write(answer)
                    answer = await up_reader.readuntil(b"\r\n\r\n")
                if fault == Stall():
                    await self._lifted.wait()
                writer.write(_close_after(answer))
                if isinstance(fault, Cut | Stall):
                    writer.write(await _read_at_most(up_reader, fault.after_bytes))
                    await writer.drain()
                if isinstance(fault, Stall) and fault.after_bytes:
                    await self._lifted.wait()
                if isinstance(fault, Trickle):
                    await self._trickle(up_reader, writer, fault)
                if not isinstance(fault, Cut):
                    await _pump(up_reader, writer)
            finally:
                upload.cancel()
                with suppress(asyncio.CancelledError, ConnectionError):
                    await upload
        finally:
            up_writer.close()

    async def _trickle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Trickle) -> None:
        lifted = self._lifted
        while not lifted.is_set() and (chunk := await reader.read(fault.bytes_per_second)):
            writer.write(chunk)
            await writer.drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(lifted.wait(), 1.0)


@contextmanager
def fault_proxy(upstream_url: str) -> Iterator[FaultProxy]:
    """Runs a proxy in a thread of its own."""
    proxy = FaultProxy(upstream_url)
    try:
        yield proxy
    finally:
        proxy.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()


async def _read_at_most(reader: asyncio.StreamReader, count: int) -> bytes:
    try:
        return await reader.readexactly(count)
    except asyncio.IncompleteReadError as error:
        return error.partial


def _close_after(head: bytes) -> bytes:
    """The header with the wish that the connection ends after this request."""
    head = re.sub(rb"(?im)^(connection|keep-alive):.*\r\n", b"", head)
    return head[:-2] + b"Connection: close\r\n\r\n"


def _answer(status: Status) -> bytes:
    code, name = status.code, status.error or _CODES.get(status.code, "Error")
    body = f'<?xml version="1.0"?><Error><Code>{name}</Code><Message>{name}</Message></Error>'.encode()
    head = f"HTTP/1.1 {code} {name}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


def _reset(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()

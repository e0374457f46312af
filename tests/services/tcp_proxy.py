"""A TCP proxy in front of a server on a Unix socket: a network that is slow, falls silent, or resets what is open."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tests.services.closing import drop, stop_listening

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path

_CHUNK_BYTES = 64 * 1024


class TcpProxy:
    """See the module; made by :func:`tcp_proxy`.

    Attributes:
        port: on loopback.
    """

    def __init__(self, upstream: Path) -> None:
        self._upstream = upstream
        self._delay_seconds = 0.0
        self._is_silent = False
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._thread.start()
        self._server: asyncio.Server | None = None
        self.port = 0
        self._call(self._listen())

    def slow_down(self, seconds: float) -> None:
        """Let every piece of data wait so long, in both directions."""
        self._delay_seconds = seconds

    def fall_silent(self) -> None:
        """Swallow everything, and accept new connections without an answer, as a route that leads nowhere does."""
        self._is_silent = True

    def heal(self) -> None:
        """Be a good network again. What was open meanwhile is reset: the other side has forgotten it."""
        was_silent, self._is_silent, self._delay_seconds = self._is_silent, False, 0.0
        if was_silent:
            self.reset()

    def reset(self) -> None:
        """Reset every connection that is open now."""
        self._call(self._reset())

    def close(self) -> None:
        """Stop listening and drop what is open."""
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _reset(self) -> None:
        for writer in self._clients.values():
            raw: socket.socket = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _shut(self) -> None:
        assert self._server is not None
        await stop_listening(self._server)
        await drop(self._clients)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task that is cancelled before its first step closes nothing: who closes is known from here on.
        task = self._loop.create_task(self._serve(reader, writer))
        self._clients[task] = writer
        task.add_done_callback(lambda done: self._clients.pop(done).close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # One of the two sides went away, and so does the other.
        with suppress(OSError):
            up_reader, up_writer = await asyncio.open_unix_connection(self._upstream)
            try:
                pumps = (self._pump(reader, up_writer), self._pump(up_reader, writer))
                _, left = await asyncio.wait(map(asyncio.ensure_future, pumps), return_when="FIRST_COMPLETED")
                for pump in left:
                    pump.cancel()
                await asyncio.gather(*left, return_exceptions=True)
            finally:
                up_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                if self._is_silent:
                    continue
                writer.write(chunk)
                await writer.drain()


@contextmanager
def tcp_proxy(upstream: Path) -> Iterator[TcpProxy]:
    """Run a proxy in a thread of its own."""
    proxy = TcpProxy(upstream)
    try:
        yield proxy
    finally:
        proxy.close()

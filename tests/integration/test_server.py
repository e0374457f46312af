"""The server as clients meet it: real sockets, kept connections."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING

from ramq.web.server import listen, make_server

if TYPE_CHECKING:
    from ramq.wiring import Services


def test_small_answers_do_not_wait_for_acknowledgements(services: Services) -> None:
    listener = listen(services, "127.0.0.1", 0)
    server = make_server(services)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with socket.create_connection(listener.getsockname(), timeout=30) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
            (connection,) = server.server_state.connections
            transport = connection.transport
            assert isinstance(transport, asyncio.Transport)
            accepted = transport.get_extra_info("socket")
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    finally:
        server.should_exit = True
        thread.join()
        listener.close()

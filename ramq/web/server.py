"""The web server: serves the application with uvicorn, only on loopback unless there are tokens."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING

import uvicorn

from ramq.web.app import create_app
from ramq.web.security import is_loopback
from storage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from ramq.wiring import Services

GRACE_SECONDS = 10
"""The time that running requests have to finish when the server stops."""


def serve(
    services: Services,
    host: str,
    port: int,
    *,
    on_ready: Callable[[str], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then finish running requests.

    Args:
        services: the services of the application.
        host: the name or address to listen on.
        port: the port, or 0 for any free one.
        on_ready: called with the page's URL when the port is open.
        on_stop: called as soon as the server is told to stop.

    Raises:
        UsageError: ``host`` is not loopback and there are no tokens, or listening on the address failed.
    """
    listener = listen(services, host, port)
    server = make_server(services, on_stop=on_stop)
    if on_ready is not None:
        on_ready(url_of(listener))
    with listener:
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server that reports Ctrl-C at once, because running requests may take some seconds to finish."""

    on_stop: Callable[[], None] | None = None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close every connection. Browsers open spare ones in advance, so close new ones as well."""
        closing = asyncio.ensure_future(super().shutdown(sockets))
        while not closing.done():
            for connection in list(self.server_state.connections):
                if not connection.transport.is_closing():
                    connection.shutdown()
            await asyncio.wait([closing], timeout=0.1)
        await closing

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit and self.on_stop is not None:
            self.on_stop()
        super().handle_exit(sig, frame)


def make_server(services: Services, *, on_stop: Callable[[], None] | None = None) -> uvicorn.Server:
    """Return a server. Run it with ``server.run(sockets=[listen(…)])``, and stop it with ``server.should_exit``."""
    server: _Server

    def is_stopping() -> bool:
        return server.should_exit

    app = create_app(services, is_stopping=is_stopping)
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            # Anybody can send X-Forwarded-For: it would lead around the limit for each address.
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            h11_max_incomplete_event_size=64 * 1024,
        )
    )
    server.on_stop = on_stop
    return server


def require_tokens(services: Services, host: str) -> None:
    """Raise ``UsageError`` if ``host`` can be reached from other machines, and there are no tokens."""
    if is_loopback(host) or services.settings.api_tokens:
        return
    if not services.accounts.known().has_tokens:
        raise UsageError(
            f"listening on {host} requires tokens, because other machines can reach it; make one with "
            "`ramq user add NAME --role admin` and `ramq token create NAME`, or set RAMQ_API_TOKENS, or use "
            "--host 127.0.0.1"
        )


def listen(services: Services, host: str, port: int) -> socket.socket:
    """Open the port and return its socket. Raises ``UsageError`` if that is not allowed or not possible."""
    require_tokens(services, host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise UsageError(f"port {port} is in use; choose another with --port") from error
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot listen on {host}, port {port}: {reason}; choose others with --host and --port"
        ) from error
    # asyncio sets TCP_NODELAY only on connections of a socket that names its protocol. Without that option, a response
    # is sent in two packets, and the second waits 40 ms for the client's delayed acknowledgement.
    return socket.socket(listener.family, listener.type, socket.IPPROTO_TCP, fileno=listener.detach())


def url_of(listener: socket.socket) -> str:
    """Return the URL of the page that is served on ``listener``."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

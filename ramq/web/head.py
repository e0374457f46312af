"""HEAD requests: the response to GET without its body."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Head:
    """The middleware that answers HEAD on every route that answers GET (RFC 9110, section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send GET to the application, and drop the body of its response."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        is_sent = False

        async def send_head(message: Message) -> None:
            nonlocal is_sent
            if is_sent or message["type"] != "http.response.start":
                return
            is_sent = True
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        async def receive_until_sent() -> Message:
            # Pretend that the client has disconnected, to end endless responses such as event streams.
            return {"type": "http.disconnect"} if is_sent else await receive()

        await self._app({**scope, "method": "GET"}, receive_until_sent, send_head)

"""HEAD: what GET answers, without its body."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Head:
    """The layer that answers HEAD wherever GET is answered (RFC 9110, section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask the application for GET, and keep its body back."""
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
            # An answer without an end, such as a stream of events, stops when its client is gone.
            return {"type": "http.disconnect"} if is_sent else await receive()

        await self._app({**scope, "method": "GET"}, receive_until_sent, send_head)

"""Access control: tokens, rate limits, host and origin checks, request sizes, response headers.

The rules:

1. Without tokens, the server is for this machine alone. The ``Host`` must be a loopback name, which refuses foreign
   pages whose name resolves to 127.0.0.1 (DNS rebinding).
2. With tokens, every path except health checks, sign-in and static files requires one. It is sent as
   ``Authorization: Bearer``, or as the cookie that the sign-in page sets. The cookie holds a digest of the token and
   is ``HttpOnly`` and ``SameSite=Strict``.
3. The scope of a token determines what it allows (``ramq.web.tokens``).
4. The rate limit applies to each token, and to each address for requests without a token.
5. A request that changes something must come from our own site, unless it carries a bearer token.
6. Request bodies are limited in size, whether their length is declared or not.
7. Stores that send events of a watch know the watch's secret instead of a token, and may do nothing else.
"""

from __future__ import annotations

import ipaddress
import math
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response

from ramq.web.tokens import EVENTS_PATH, SAFE_METHODS, UPLOAD_PATHS, bearer_token, scope_needed

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ramq.web.rate_limit import RateLimit
    from ramq.web.tokens import Tokens

MAX_UPLOAD_BYTES = 32 * 1024 * 1024
MAX_BODY_BYTES = 256 * 1024
MAX_LENGTH_DIGITS = 18
"""The maximum digits of a declared length. Python does not parse numbers with thousands of digits."""
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/login"})
UNLIMITED_PATHS = frozenset({"/healthz", "/readyz"})

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`, because browsers then send `Origin: null` with the forms of our own pages.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def is_loopback(host: str) -> bool:
    """Return whether ``host`` (a name or an address, without a port) can only be this machine."""
    host = host.strip("[]").lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_same_origin(headers: Headers) -> bool:
    """Return whether the request comes from our own site, by its headers. Only browsers send these headers.

    Requests of other programs, which do not have them, are accepted.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = headers.get("origin")
    # Not with urlsplit, which raises for some invalid addresses.
    return origin is None or origin.partition("://")[2] == headers.get("host", "")


class Gate:
    """The middleware that applies the rules above and adds the security headers to every response."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Tokens,
        limit: RateLimit,
        refuse: Callable[[HTTPConnection, HTTPException], Response],
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._limit = limit
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on to the application, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        connection = HTTPConnection(scope)
        try:
            self._check_rate(connection)
            if self._must_sign_in(connection):
                await _sign_in(connection)(scope, receive, send_with_headers)
                return
            self._check(connection)
        except HTTPException as error:
            await self._refuse(connection, error)(scope, receive, send_with_headers)
            return
        await self._app(scope, _limited(receive, _limit_for(connection)), send_with_headers)

    def _must_sign_in(self, connection: HTTPConnection) -> bool:
        is_screen = connection.scope["method"] == "GET" and not connection.url.path.startswith("/v1/")
        wants_html = "text/html" in connection.headers.get("accept", "")
        return is_screen and wants_html and not self._is_open(connection)

    def _is_open(self, connection: HTTPConnection) -> bool:
        path = connection.url.path
        if not self._tokens.are_set or path in OPEN_PATHS or path.startswith("/static/") or _brings_events(connection):
            return True
        return self._tokens.of(connection) is not None

    def _check_rate(self, connection: HTTPConnection) -> None:
        path = connection.url.path
        if path in UNLIMITED_PATHS or path.startswith("/static/") or _brings_events(connection):
            return
        token = self._tokens.of(connection)
        # Requests without a valid token are limited by address, which also slows down guessing tokens.
        caller = f"token {token.name}" if token else f"address {connection.client.host if connection.client else ''}"
        wait = self._limit.wait_seconds(caller)
        if wait:
            detail = "Too many requests: the limit is RAMQ_RATE_LIMIT. Wait for the seconds in Retry-After."
            raise HTTPException(429, detail, headers={"Retry-After": str(math.ceil(wait))})

    def _check(self, connection: HTTPConnection) -> None:
        headers = connection.headers
        if not self._tokens.are_set and not is_loopback(connection.url.hostname or ""):
            detail = "Without tokens, only this machine may connect. Use http://localhost or http://127.0.0.1."
            raise HTTPException(421, detail)
        if not self._is_open(connection):
            detail = "Send a token from RAMQ_API_TOKENS as `Authorization: Bearer TOKEN`."
            raise HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})
        token, needed = self._tokens.of(connection), scope_needed(connection.scope["method"], connection.url.path)
        if token is not None and not token.may(needed):
            raise HTTPException(403, f"This requires a token of scope {needed}; {token.name} has {token.scope}.")
        is_by_token = self._tokens.are_set and bearer_token(headers) is not None
        if connection.scope["method"] not in SAFE_METHODS and not is_by_token and not is_same_origin(headers):
            raise HTTPException(
                403, "A request that changes data must come from a page of this site, or carry a bearer token."
            )
        length = headers.get("content-length", "0")
        limit = _limit_for(connection)
        if not length.isdecimal() or len(length) > MAX_LENGTH_DIGITS or int(length) > limit:
            raise _too_large(limit)


def _brings_events(connection: HTTPConnection) -> bool:
    """Return whether a store sends events. The route checks their secret, and limits those who do not know it."""
    return connection.scope["method"] == "POST" and EVENTS_PATH.fullmatch(connection.url.path) is not None


def _limit_for(connection: HTTPConnection) -> int:
    return MAX_UPLOAD_BYTES if connection.url.path in UPLOAD_PATHS else MAX_BODY_BYTES


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"The request is too large; the limit is {limit // 1024:,} KiB.")


def _limited(receive: Receive, limit: int) -> Receive:
    """Wrap ``receive`` so that it raises once a body without a declared length exceeds ``limit`` bytes."""
    received = 0

    async def receive_limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        return message

    return receive_limited


def _sign_in(connection: HTTPConnection) -> Response:
    if connection.headers.get("hx-request") == "true":
        # A live part of a page, whose session has ended. Send the whole page to the sign-in, not only the part.
        return Response(status_code=204, headers={"HX-Redirect": "/login"})
    target = connection.url.path + (f"?{connection.url.query}" if connection.url.query else "")
    return RedirectResponse(f"/login?next={quote(target, safe='')}", status_code=303)
